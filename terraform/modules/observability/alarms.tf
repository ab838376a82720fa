# Alarms for failures that our own metrics cannot show: AWS observes AWS.

locals {
  alarms = merge({
    # No page: this alarm cannot tell a region that was evacuated on purpose. The rules of the other
    # regions can, and NoNodeReports of this region.
    "no node is ready" = {
      urgency   = "ticket", metric = "HealthyHostCount", namespace = "AWS/NetworkELB", statistic = "Maximum", below = 1, minutes = 2
      dimension = { LoadBalancer = var.balancer.balancer, TargetGroup = var.balancer.target_group }
      what      = "No node of the region is ready. Its companies' punches are written by other regions. RUNBOOK.md, \"HomeWithoutReadyNodes\"."
    }
    # The balancer counts nodes in each zone, so the number of ready nodes cannot be compared with
    # the minimum. It can tell that a node is not ready.
    "a node is not ready" = {
      urgency   = "ticket", metric = "UnHealthyHostCount", namespace = "AWS/NetworkELB", statistic = "Maximum", above = 0, minutes = 15
      dimension = { LoadBalancer = var.balancer.balancer, TargetGroup = var.balancer.target_group }
      what      = "For a quarter of an hour there was a node that is not ready. It is not replaced by itself: `punchclock status`, then terminate the machine, unless the region is evacuated."
    }
    "fewer nodes than the least" = {
      urgency   = "ticket", metric = "GroupInServiceInstances", namespace = "AWS/AutoScaling", statistic = "Maximum", below = var.nodes.least, minutes = 15
      dimension = { AutoScalingGroupName = var.nodes.group }
      what      = "For a quarter of an hour there were fewer machines with a node than the region should always have: new ones do not start. The group's activities say why."
    }
    "collector does not answer" = {
      urgency   = "ticket", metric = "HealthyHostCount", namespace = "AWS/NetworkELB", statistic = "Maximum", below = 1, minutes = 10
      dimension = { LoadBalancer = regex("loadbalancer/(.*)$", var.internal_balancer.arn)[0], TargetGroup = aws_lb_target_group.collector.arn_suffix }
      what      = "Traces and measurements of the region are lost; punches are not concerned. Alerts from measurements are blind until it is back. RUNBOOK.md, \"The trace collector is gone\"."
    }
    }, { for name, server in var.servers : "${name} fails its checks" => {
      urgency   = "ticket", metric = "StatusCheckFailed", namespace = "AWS/EC2", statistic = "Maximum", above = 0, minutes = 10
      dimension = { InstanceId = server.instance }
      what      = "The machine of ${name} in ${server.zone} is broken, and was not recovered by AWS. The database goes on with the others; replace it: terraform/day2.md, \"A server of the database\"."
  } })
}

resource "aws_cloudwatch_metric_alarm" "region" {
  for_each            = local.alarms
  alarm_name          = "${local.prefix}: ${each.key}"
  alarm_description   = each.value.what
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimension
  statistic           = each.value.statistic
  comparison_operator = can(each.value.above) ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = can(each.value.above) ? each.value.above : each.value.below
  period              = 60
  evaluation_periods  = each.value.minutes
  treat_missing_data  = "breaching" # who is silent is not well
  alarm_actions       = [aws_sns_topic.urgency[each.value.urgency].arn]
  ok_actions          = [aws_sns_topic.urgency[each.value.urgency].arn]
}
