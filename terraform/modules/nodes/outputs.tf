output "addresses" {
  description = "Public addresses of the region, one in each zone."
  value       = { for zone, eip in aws_eip.balancer : zone => eip.public_ip }
}

output "url" {
  description = "Where devices reach this region."
  value       = "https://${var.name}.${var.domain}"
}

output "internal_balancer" {
  description = "For further listeners inside the region."
  value       = { arn = aws_lb.internal.arn, dns_name = aws_lb.internal.dns_name, zone_id = aws_lb.internal.zone_id }
}

output "balancer" {
  description = "Of the public balancer and its group of nodes, as CloudWatch names them."
  value       = { balancer = aws_lb.public.arn_suffix, target_group = aws_lb_target_group.public.arn_suffix }
}

output "group" {
  value = aws_autoscaling_group.node.name
}

output "settings" {
  description = "The nodes' settings file."
  value       = local.settings
}

output "user_data" {
  description = "What each node is started with."
  value       = local.user_data
}
