# The load is known in advance: half past eight, in each of the region's time zones. Capacity grows
# before it, by the clock of each zone and so through changes of summer time. It shrinks once, after
# the last zone's rush.

locals {
  last = var.time_zones[length(var.time_zones) - 1]
}

resource "aws_autoscaling_schedule" "raise" {
  for_each               = toset(var.time_zones)
  autoscaling_group_name = aws_autoscaling_group.node.name
  scheduled_action_name  = "raise ${each.key}"
  recurrence             = "${var.morning.from} * * ${var.morning.days}"
  time_zone              = each.key
  min_size               = var.size.morning
  max_size               = var.size.most
  desired_capacity       = -1 # at least min_size: a later zone's morning must not take back what the load of an earlier one raised
}

resource "aws_autoscaling_schedule" "lower" {
  autoscaling_group_name = aws_autoscaling_group.node.name
  scheduled_action_name  = "lower ${local.last}"
  recurrence             = "${var.morning.to} * * ${var.morning.days}"
  time_zone              = local.last
  min_size               = var.size.least
  max_size               = var.size.most
  desired_capacity       = -1 # the load lowers it
}

# For load that was not foreseen. The target is half: the other half is for the load of a zone or a
# region that is lost.
resource "aws_autoscaling_policy" "load" {
  name                   = "load"
  autoscaling_group_name = aws_autoscaling_group.node.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    target_value = 50
    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}
