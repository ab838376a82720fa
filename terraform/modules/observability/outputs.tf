output "metrics" {
  description = "Where to ask for metrics, PromQL, signed for the service aps."
  value       = aws_prometheus_workspace.main.prometheus_endpoint
}

output "topics" {
  value = { for urgency, topic in aws_sns_topic.urgency : urgency => topic.arn }
}

output "user_data" {
  description = "What the collector is started with."
  value       = local.user_data
}
