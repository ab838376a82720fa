# Two states cannot each hold half of a connection without waiting for each other. So the later
# region in the list owns all of it: the request, the acceptance in the earlier region and the
# routes on both sides. The earlier region's state never changes. A region that is not up yet is
# skipped with a warning. Its turn comes with the next apply of this folder; regions that are
# brought up in order never need it.

data "aws_vpcs" "peer" {
  for_each = var.peers
  region   = each.key
  tags     = { Name = "${var.deployment}-${each.key}", "punchclock:deployment" = var.deployment }
}

locals {
  peers = { for name, peer in var.peers : name => { cidr = peer.cidr, vpc = one(data.aws_vpcs.peer[name].ids) } if length(data.aws_vpcs.peer[name].ids) == 1 }
}

check "peers" {
  assert {
    condition     = length(local.peers) == length(var.peers)
    error_message = "No VPC yet in ${join(", ", setsubtract(keys(var.peers), keys(local.peers)))}: apply this folder again when it is there."
  }
}

data "aws_route_tables" "peer" {
  for_each = local.peers
  region   = each.key
  vpc_id   = each.value.vpc
  tags     = { "punchclock:routes" = "private" }
}

resource "aws_vpc_peering_connection" "peer" {
  for_each    = local.peers
  vpc_id      = aws_vpc.main.id
  peer_vpc_id = each.value.vpc
  peer_region = each.key
  tags        = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_vpc_peering_connection_accepter" "peer" {
  for_each                  = local.peers
  region                    = each.key
  vpc_peering_connection_id = aws_vpc_peering_connection.peer[each.key].id
  auto_accept               = true
  tags                      = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_route" "to_peer" {
  for_each                  = { for pair in setproduct(keys(local.peers), local.zones) : "${pair[0]} from ${pair[1]}" => { peer = pair[0], zone = pair[1] } }
  route_table_id            = aws_route_table.private[each.value.zone].id
  destination_cidr_block    = local.peers[each.value.peer].cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.peer[each.value.peer].id
}

resource "aws_route" "from_peer" {
  for_each = merge([for name, peer in local.peers : {
    for table in data.aws_route_tables.peer[name].ids : "${name} ${table}" => { peer = name, table = table }
  }]...)
  region                    = each.value.peer
  route_table_id            = each.value.table
  destination_cidr_block    = var.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.peer[each.value.peer].id
}
