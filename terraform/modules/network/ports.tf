# Every open port stands here, and each line is a rule at both ends. Security groups of other
# regions cannot be named over a peering. So regions open their ports to the deployment's addresses,
# which are reached over peerings only.

locals {
  groups = {
    balancer  = "network balancer before the nodes"
    internal  = "internal balancer: gossip seeds, operations and the collector"
    nodes     = "Punchclock nodes"
    database  = "CockroachDB"
    collector = "OpenTelemetry collector"
  }
  internet   = "0.0.0.0/0"
  deployment = var.network
  open = {
    "clients reach the balancer"            = { from = local.internet, to = "balancer", port = 443, protocol = "tcp" }
    "balancer reaches the public API"       = { from = "balancer", to = "nodes", port = 8080, protocol = "tcp" }
    "nodes call nodes"                      = { from = "nodes", to = "nodes", port = 7400, protocol = "tcp", regions = true }
    "nodes gossip"                          = { from = "nodes", to = "nodes", port = 7946, protocol = "tcp", regions = true }
    "nodes gossip by datagram"              = { from = "nodes", to = "nodes", port = 7946, protocol = "udp", regions = true }
    "nodes join by the seeds' name"         = { from = "nodes", to = "internal", port = 7946, protocol = "tcp", regions = true }
    "internal balancer reaches the seeds"   = { from = "internal", to = "nodes", port = 7946, protocol = "tcp" }
    "nodes speak SQL"                       = { from = "nodes", to = "database", port = 26257, protocol = "tcp", regions = true }
    "databases speak to each other"         = { from = "database", to = "database", port = 26257, protocol = "tcp", regions = true }
    "console asks nodes"                    = { from = "database", to = "internal", port = 9090, protocol = "tcp" }
    "internal balancer reaches operations"  = { from = "internal", to = "nodes", port = 9090, protocol = "tcp" }
    "nodes send traces"                     = { from = "nodes", to = "internal", port = 4318, protocol = "tcp" }
    "internal balancer reaches collector"   = { from = "internal", to = "collector", port = 4318, protocol = "tcp" }
    "internal balancer checks collector"    = { from = "internal", to = "collector", port = 13133, protocol = "tcp" }
    "collector scrapes nodes"               = { from = "collector", to = "nodes", port = 9090, protocol = "tcp" }
    "collector scrapes the database"        = { from = "collector", to = "database", port = 8080, protocol = "tcp" }
    "nodes reach key sets and AWS"          = { from = "nodes", to = local.internet, port = 443, protocol = "tcp" }
    "database reaches AWS"                  = { from = "database", to = local.internet, port = 443, protocol = "tcp" }
    "collector reaches AWS and trace store" = { from = "collector", to = local.internet, port = 443, protocol = "tcp" }
  }
  ingress = { for why, o in local.open : why => o if contains(keys(local.groups), o.to) }
  egress  = { for why, o in local.open : why => o if contains(keys(local.groups), o.from) }
}

resource "aws_security_group" "main" {
  for_each    = local.groups
  name        = "${local.prefix}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.main.id
  tags        = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "open" {
  for_each                     = local.ingress
  security_group_id            = aws_security_group.main[each.value.to].id
  description                  = each.key
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
  cidr_ipv4                    = try(each.value.regions, false) ? local.deployment : contains(keys(local.groups), each.value.from) ? null : each.value.from
  referenced_security_group_id = try(each.value.regions, false) || !contains(keys(local.groups), each.value.from) ? null : aws_security_group.main[each.value.from].id
}

resource "aws_vpc_security_group_egress_rule" "open" {
  for_each                     = local.egress
  security_group_id            = aws_security_group.main[each.value.from].id
  description                  = each.key
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
  cidr_ipv4                    = try(each.value.regions, false) ? local.deployment : contains(keys(local.groups), each.value.to) ? null : each.value.to
  referenced_security_group_id = try(each.value.regions, false) || !contains(keys(local.groups), each.value.to) ? null : aws_security_group.main[each.value.to].id
}
