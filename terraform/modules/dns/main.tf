# Names of the region. These are A records, not aliases: an alias to a balancer has a TTL of a
# minute, these have ours.

locals {
  regional = "${var.name}.${var.domain}"
}

# Checks from outside, as a device comes: through the balancer to a node that says that it takes
# punches. Two failures in ten seconds are certain enough to withdraw a zone, and a zone that was
# withdrawn wrongly is back as fast.
resource "aws_route53_health_check" "zone" {
  for_each          = var.addresses
  type              = "HTTPS"
  ip_address        = each.value
  fqdn              = local.regional
  enable_sni        = true
  port              = 443
  resource_path     = "/readyz"
  request_interval  = 10
  failure_threshold = 2
  tags              = { Name = "${var.deployment} ${each.key}" }
}

# The region is healthy while one of its zones is.
resource "aws_route53_health_check" "region" {
  type                   = "CALCULATED"
  child_health_threshold = 1
  child_healthchecks     = [for zone in sort(keys(var.addresses)) : aws_route53_health_check.zone[zone].id]
  tags                   = { Name = "${var.deployment} ${var.name}" }
}

# The regional name answers with the healthy zones, or with all zones when none is healthy: a client
# that asks for a region by its name wants that region.
resource "aws_route53_record" "regional" {
  for_each                         = var.addresses
  zone_id                          = var.zone_id
  name                             = local.regional
  type                             = "A"
  ttl                              = var.ttl
  records                          = [each.value]
  set_identifier                   = each.key
  multivalue_answer_routing_policy = true
  health_check_id                  = aws_route53_health_check.zone[each.key].id
}

# The general name leads to the nearest healthy region.
resource "aws_route53_record" "general" {
  count           = var.general ? 1 : 0
  zone_id         = var.zone_id
  name            = var.domain
  type            = "A"
  ttl             = var.ttl
  records         = [for zone in sort(keys(var.addresses)) : var.addresses[zone]]
  set_identifier  = var.name
  health_check_id = aws_route53_health_check.region.id
  latency_routing_policy {
    region = var.name
  }
}

# No client reaches the region. Other regions serve its companies' devices, and a ticket asks why.
resource "aws_cloudwatch_metric_alarm" "region" {
  region              = "us-east-1" # where Route 53 has its metrics
  alarm_name          = "${var.deployment} ${var.name} is withdrawn from DNS"
  alarm_description   = "No zone of ${var.name} answers /readyz from outside. Devices go to other regions. RUNBOOK.md, \"RegionUnreachable\"."
  namespace           = "AWS/Route53"
  metric_name         = "HealthCheckStatus"
  dimensions          = { HealthCheckId = aws_route53_health_check.region.id }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 2
  treat_missing_data  = "breaching"
  alarm_actions       = [var.topics["page"]]
  ok_actions          = [var.topics["page"]]
}
