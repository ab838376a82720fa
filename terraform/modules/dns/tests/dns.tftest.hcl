mock_provider "aws" {
  source = "../../testing"
}

variables {
  deployment = "punchclock"
  name       = "eu-west-1"
  domain     = "clock.example.com"
  zone_id    = "Z0123456789"
  addresses  = { eu-west-1a = "198.51.100.1", eu-west-1b = "198.51.100.2", eu-west-1c = "198.51.100.3" }
  topics     = { page = "arn:aws:sns:us-east-1:123456789012:page", ticket = "arn:aws:sns:us-east-1:123456789012:ticket" }
}

run "names_that_follow_readiness" {
  assert {
    condition     = output.names == ["eu-west-1.clock.example.com", "clock.example.com"]
    error_message = "names are ${jsonencode(output.names)}"
  }
  assert {
    condition = alltrue([for zone, h in aws_route53_health_check.zone :
      h.type == "HTTPS" && h.ip_address == var.addresses[zone] && h.fqdn == "eu-west-1.clock.example.com" && h.enable_sni && h.port == 443 && h.resource_path == "/readyz" && h.request_interval == 10 && h.failure_threshold == 2
    ]) && length(aws_route53_health_check.zone) == 3
    error_message = "each zone's address is asked for /readyz every ten seconds: ${jsonencode(aws_route53_health_check.zone)}"
  }
  assert {
    condition     = aws_route53_health_check.region.type == "CALCULATED" && aws_route53_health_check.region.child_health_threshold == 1 && length(aws_route53_health_check.region.child_healthchecks) == 3
    error_message = "the region is well while one zone is"
  }
  assert {
    condition = alltrue([for zone, r in aws_route53_record.regional :
      r.zone_id == "Z0123456789" && r.name == "eu-west-1.clock.example.com" && r.type == "A" && r.ttl == 10 && r.records == toset([var.addresses[zone]]) && r.multivalue_answer_routing_policy && r.set_identifier == zone && r.health_check_id == aws_route53_health_check.zone[zone].id
    ]) && length(aws_route53_record.regional) == 3
    error_message = "the regional name answers with the zones that are well: ${jsonencode(aws_route53_record.regional)}"
  }
  assert {
    condition = (aws_route53_record.general[0].zone_id == "Z0123456789" && aws_route53_record.general[0].name == "clock.example.com" && aws_route53_record.general[0].ttl == 10 && aws_route53_record.general[0].set_identifier == "eu-west-1" &&
      one(aws_route53_record.general[0].latency_routing_policy).region == "eu-west-1" && aws_route53_record.general[0].health_check_id == aws_route53_health_check.region.id &&
    aws_route53_record.general[0].records == toset(values(var.addresses)))
    error_message = "the general name leads to the nearest region that is well: ${jsonencode(aws_route53_record.general[0])}"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.region.region == "us-east-1" && aws_cloudwatch_metric_alarm.region.dimensions.HealthCheckId == aws_route53_health_check.region.id && aws_cloudwatch_metric_alarm.region.alarm_actions == toset([var.topics.page])
    error_message = "a region that is withdrawn pages somebody, from where Route 53 has its metrics"
  }
  assert {
    condition = (aws_cloudwatch_metric_alarm.region.namespace == "AWS/Route53" && aws_cloudwatch_metric_alarm.region.metric_name == "HealthCheckStatus" && aws_cloudwatch_metric_alarm.region.statistic == "Minimum" &&
    aws_cloudwatch_metric_alarm.region.comparison_operator == "LessThanThreshold" && aws_cloudwatch_metric_alarm.region.threshold == 1 && aws_cloudwatch_metric_alarm.region.treat_missing_data == "breaching")
    error_message = "1 is well, 0 is not, and silence is not well: ${jsonencode(aws_cloudwatch_metric_alarm.region)}"
  }
}

run "a_region_that_is_tried_out_has_its_own_name_only" {
  variables { general = false }
  assert {
    condition     = output.names == ["eu-west-1.clock.example.com"] && length(aws_route53_record.general) == 0 && length(aws_route53_record.regional) == 3
    error_message = "names are ${jsonencode(output.names)}"
  }
}

run "an_answer_that_is_kept_too_long" {
  command = plan
  variables { ttl = 300 }
  expect_failures = [var.ttl]
}

run "no_addresses" {
  command = plan
  variables { addresses = {} }
  expect_failures = [var.addresses]
}
