# The load is known in advance: `punchclock forecast` tells the peaks of each region. Capacity grows before a peak and
# shrinks after it, by the clock of the peak's zone, and so through changes of summer time.
#
# AWS knows only one smallest size, and the last action wins. So each action sets what all peaks need that may be
# running at that moment. A peak that begins or ends takes no capacity from another.

locals {
  week   = 7 * 24 * 60
  days   = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]
  clocks = sort(distinct(var.peaks[*].zone))

  # Each peak on each of its days, in minutes of the local week. AWS refuses two actions at one moment, and 07:45 in
  # Berlin is 06:45 in London: each zone begins some minutes earlier and ends as many later.
  minutes = distinct(concat(var.peaks[*].from, var.peaks[*].to))
  minute  = { for t in local.minutes : t => tonumber(split(":", t)[0]) * 60 + tonumber(split(":", t)[1]) }
  runs = flatten([for p in var.peaks : [for d in p.days : {
    zone   = p.zone
    nodes  = p.nodes
    ahead  = max(p.utc_offsets...)
    behind = min(p.utc_offsets...)
    from   = index(local.days, d) * 1440 + local.minute[p.from] - index(local.clocks, p.zone)
    to     = index(local.days, d) * 1440 + local.minute[p.to] + index(local.clocks, p.zone) + (local.minute[p.to] > local.minute[p.from] ? 0 : 1440)
  }]])

  # Where zones change their clocks on different days, another zone's peak may seem to run for an hour or two longer than it
  # does. Then the capacity is given back by a second action, when all clocks agree that the peak is over.
  settle = 135
  moments = flatten([for r in local.runs : [for at in [r.from, r.to, r.to + local.settle] : {
    zone  = r.zone
    at    = (at + local.week) % local.week
    after = at > r.to ? (r.to + local.week) % local.week : -1
    nodes = max(var.size.least, [for q in local.runs : q.nodes if anytrue([for k in [-local.week, 0, local.week] : (
      q.zone == r.zone ? q.from <= at + k && at + k < q.to :
      q.from - q.ahead <= at - r.behind + k && at - r.ahead + k < q.to - q.behind
    )])]...)
  }]])
  # The second action counts only where it takes something back.
  kept = [for m in local.moments : m if m.after < 0 || length(local.clocks) > 1 && anytrue([for n in local.moments : n.zone == m.zone && n.at == m.after && n.nodes > m.nodes])]

  # Actions that differ only in their day are one action.
  actions = { for m in distinct([for m in local.kept : merge(m, { after = 0 })]) :
    format("%02d%02d %s: %d", floor(m.at % 1440 / 60), m.at % 60, m.zone, m.nodes) => m...
  }
}

resource "aws_autoscaling_schedule" "peak" {
  for_each               = local.actions
  autoscaling_group_name = aws_autoscaling_group.node.name
  scheduled_action_name  = each.key
  recurrence = format("%d %d * * %s", each.value[0].at % 60, floor(each.value[0].at % 1440 / 60), join(",", [
    for i, d in local.days : d if contains([for m in each.value : floor(m.at / 1440)], i)
  ]))
  time_zone        = each.value[0].zone
  min_size         = each.value[0].nodes
  max_size         = var.size.most
  desired_capacity = -1 # at least min_size: the load decides about more, and takes it back
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
