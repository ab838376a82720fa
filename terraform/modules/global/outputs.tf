output "name_servers" {
  description = "What the parent zone must delegate to."
  value       = aws_route53_zone.public.name_servers
}

output "zone_id" {
  value = aws_route53_zone.public.zone_id
}

output "internal_zone" {
  description = "The private zone: name and id."
  value       = { name = aws_route53_zone.internal.name, id = aws_route53_zone.internal.zone_id }
}

output "keys" {
  description = "ARN of the deployment's key in each region."
  value       = local.keys
}

output "artifacts" {
  description = "Bucket of the artifacts in each region. Upload to the first region's."
  value       = { for r in var.regions : r => aws_s3_bucket.main["artifacts ${r}"].bucket }
}

output "backups" {
  description = "Bucket of the backups in each region, and in each retired one."
  value       = { for r in concat(var.regions, var.retired) : r => aws_s3_bucket.main["backup ${r}"].bucket }
}

output "static" {
  description = "Bucket of the web page's files, and where they are served."
  value       = { bucket = aws_s3_bucket.main["static"].bucket, url = "https://static.${var.domain}" }
}

output "topics" {
  description = "Topics of page and ticket for what is global; in us-east-1, where Route 53 has its metrics."
  value       = { for urgency, topic in aws_sns_topic.urgency : urgency => topic.arn }
}
