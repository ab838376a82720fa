mock_provider "aws" {
  source = "../../testing"
}

variables {
  deployment = "punchclock"
  name       = "eu-west-1"
  network    = "10.64.0.0/12"
  cidr       = "10.65.0.0/16"
  peers      = {}
}

run "three_zones_that_do_not_overlap" {

  assert {
    condition     = output.zones == tolist(["eu-west-1a", "eu-west-1b", "eu-west-1c"])
    error_message = "zones are ${jsonencode(output.zones)}, want the first three by name"
  }
  assert {
    condition     = [for z in output.zones : aws_subnet.public[z].cidr_block] == ["10.65.0.0/24", "10.65.1.0/24", "10.65.2.0/24"]
    error_message = "public subnets are ${jsonencode(values(aws_subnet.public)[*].cidr_block)}"
  }
  assert {
    condition     = [for z in output.zones : aws_subnet.private[z].cidr_block] == ["10.65.16.0/20", "10.65.32.0/20", "10.65.48.0/20"]
    error_message = "private subnets are ${jsonencode(values(aws_subnet.private)[*].cidr_block)}"
  }
  assert {
    condition     = alltrue([for z in output.zones : aws_subnet.private[z].availability_zone == z && aws_subnet.public[z].availability_zone == z])
    error_message = "a subnet lies in another zone than its name says"
  }
  assert {
    condition = length(aws_nat_gateway.main) == 3 && alltrue([for i, z in output.zones :
      aws_nat_gateway.main[i].subnet_id == aws_subnet.public[z].id && aws_route.nat[z].nat_gateway_id == aws_nat_gateway.main[i].id
    ])
    error_message = "want a NAT gateway in each zone, and each zone's route through its own"
  }
  assert {
    condition     = aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-west-1.s3" && length(aws_vpc_endpoint.s3.route_table_ids) == 3
    error_message = "S3 must be reached without NAT"
  }
  # A later region finds this one, and its routes lead somewhere.
  assert {
    condition = (aws_vpc.main.tags == tomap({ Name = "punchclock-eu-west-1", "punchclock:deployment" = "punchclock" }) && aws_vpc.main.enable_dns_support && aws_vpc.main.enable_dns_hostnames &&
    alltrue([for table in aws_route_table.private : table.tags["punchclock:routes"] == "private"]) && !can(aws_route_table.public.tags["punchclock:routes"]))
    error_message = "its VPC is found by ${jsonencode(aws_vpc.main.tags)}, and its private routes by a tag"
  }
  assert {
    condition = (aws_route.internet.destination_cidr_block == "0.0.0.0/0" && aws_route.internet.route_table_id == aws_route_table.public.id && aws_route.internet.gateway_id == aws_internet_gateway.main.id &&
      alltrue([for zone, r in aws_route.nat : r.destination_cidr_block == "0.0.0.0/0" && r.route_table_id == aws_route_table.private[zone].id]) &&
      alltrue([for zone, a in aws_route_table_association.private : a.route_table_id == aws_route_table.private[zone].id && a.subnet_id == aws_subnet.private[zone].id]) &&
    alltrue([for zone, a in aws_route_table_association.public : a.route_table_id == aws_route_table.public.id && a.subnet_id == aws_subnet.public[zone].id]))
    error_message = "balancers reach the internet by its gateway, machines by NAT"
  }
  assert {
    condition     = data.aws_availability_zones.here.exclude_zone_ids == toset(["use1-az3"])
    error_message = "a zone without Graviton machines is taken"
  }
}

run "one_nat_gateway_serves_all_zones" {
  command = plan
  variables { nat_gateways = 1 }

  assert {
    condition     = length(aws_nat_gateway.main) == 1 && length(aws_route.nat) == 3
    error_message = "${length(aws_nat_gateway.main)} gateways, ${length(aws_route.nat)} routes"
  }
}

# The complete list of open ports: a change that opens another port must change this test.
run "exactly_the_ports_that_exist" {
  command = plan

  assert {
    condition = toset([for o in values(output.open) : "${o.from} > ${o.to} ${o.port}/${o.protocol}${try(o.regions, false) ? " all regions" : ""}"]) == toset([
      "0.0.0.0/0 > balancer 443/tcp",
      "balancer > nodes 8080/tcp",
      "nodes > nodes 7400/tcp all regions",
      "nodes > nodes 7946/tcp all regions",
      "nodes > nodes 7946/udp all regions",
      "nodes > internal 7946/tcp all regions",
      "internal > nodes 7946/tcp",
      "nodes > database 26257/tcp all regions",
      "database > database 26257/tcp all regions",
      "database > internal 9090/tcp",
      "internal > nodes 9090/tcp",
      "nodes > internal 4318/tcp",
      "internal > collector 4318/tcp",
      "internal > collector 13133/tcp",
      "collector > nodes 9090/tcp",
      "collector > database 8080/tcp",
      "nodes > 0.0.0.0/0 443/tcp",
      "database > 0.0.0.0/0 443/tcp",
      "collector > 0.0.0.0/0 443/tcp",
    ])
    error_message = "open are ${jsonencode([for o in values(output.open) : "${o.from} > ${o.to} ${o.port}/${o.protocol}"])}"
  }
  assert {
    condition     = [for why, r in aws_vpc_security_group_ingress_rule.open : why if r.cidr_ipv4 == "0.0.0.0/0"] == ["clients reach the balancer"]
    error_message = "only the public port may be open to the world, open are ${jsonencode([for why, r in aws_vpc_security_group_ingress_rule.open : why if r.cidr_ipv4 == "0.0.0.0/0"])}"
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.open) == 16 && length(aws_vpc_security_group_egress_rule.open) == 18
    error_message = "${length(aws_vpc_security_group_ingress_rule.open)} rules in, ${length(aws_vpc_security_group_egress_rule.open)} out: each line of ports.tf is one at each end that is ours"
  }
}

run "each_line_is_a_rule_at_both_ends" {
  assert {
    condition = alltrue([for why, r in aws_vpc_security_group_ingress_rule.open : r.security_group_id == aws_security_group.main[output.open[why].to].id &&
      r.from_port == output.open[why].port && r.to_port == output.open[why].port && r.ip_protocol == output.open[why].protocol &&
      (try(output.open[why].regions, false) ? r.cidr_ipv4 == "10.64.0.0/12" && r.referenced_security_group_id == null :
        output.open[why].from == "0.0.0.0/0" ? r.cidr_ipv4 == "0.0.0.0/0" && r.referenced_security_group_id == null :
      r.cidr_ipv4 == null && r.referenced_security_group_id == aws_security_group.main[output.open[why].from].id)
    ])
    error_message = "what comes in is not what ports.tf says: ${jsonencode(aws_vpc_security_group_ingress_rule.open)}"
  }
  assert {
    condition = alltrue([for why, r in aws_vpc_security_group_egress_rule.open : r.security_group_id == aws_security_group.main[output.open[why].from].id &&
      r.from_port == output.open[why].port && r.to_port == output.open[why].port && r.ip_protocol == output.open[why].protocol &&
      (try(output.open[why].regions, false) ? r.cidr_ipv4 == "10.64.0.0/12" && r.referenced_security_group_id == null :
        output.open[why].to == "0.0.0.0/0" ? r.cidr_ipv4 == "0.0.0.0/0" && r.referenced_security_group_id == null :
      r.cidr_ipv4 == null && r.referenced_security_group_id == aws_security_group.main[output.open[why].to].id)
    ])
    error_message = "what goes out is not what ports.tf says: ${jsonencode(aws_vpc_security_group_egress_rule.open)}"
  }
}

run "the_later_region_owns_the_peering" {
  variables {
    peers = { us-east-1 = { cidr = "10.64.0.0/16" } }
  }
  override_data {
    target = data.aws_vpcs.peer
    values = { ids = ["vpc-0000000000000000a"] }
  }

  assert {
    condition     = aws_vpc_peering_connection.peer["us-east-1"].peer_vpc_id == "vpc-0000000000000000a" && aws_vpc_peering_connection.peer["us-east-1"].peer_region == "us-east-1"
    error_message = "the request goes to ${jsonencode(aws_vpc_peering_connection.peer["us-east-1"])}"
  }
  assert {
    condition = (data.aws_vpcs.peer["us-east-1"].region == "us-east-1" && data.aws_vpcs.peer["us-east-1"].tags == tomap({ Name = "punchclock-us-east-1", "punchclock:deployment" = "punchclock" }) &&
    data.aws_route_tables.peer["us-east-1"].vpc_id == "vpc-0000000000000000a" && data.aws_route_tables.peer["us-east-1"].tags == tomap({ "punchclock:routes" = "private" }))
    error_message = "the other region is found by the tags that it gives itself"
  }
  assert {
    condition     = aws_vpc_peering_connection_accepter.peer["us-east-1"].region == "us-east-1" && aws_vpc_peering_connection_accepter.peer["us-east-1"].auto_accept
    error_message = "it is accepted in the other region, from here"
  }
  assert {
    condition     = length(aws_route.to_peer) == 3 && alltrue([for r in aws_route.to_peer : r.destination_cidr_block == "10.64.0.0/16" && r.vpc_peering_connection_id == aws_vpc_peering_connection_accepter.peer["us-east-1"].id]) && toset([for r in aws_route.to_peer : r.route_table_id]) == toset([for t in aws_route_table.private : t.id])
    error_message = "each zone has a route there"
  }
  assert {
    condition     = length(aws_route.from_peer) == 3 && alltrue([for r in aws_route.from_peer : r.destination_cidr_block == "10.65.0.0/16" && r.region == "us-east-1"]) && toset([for r in aws_route.from_peer : r.route_table_id]) == toset(data.aws_route_tables.peer["us-east-1"].ids)
    error_message = "and each of theirs has one back, made from here"
  }
}

run "a_region_that_is_not_up_yet_is_passed_over" {
  command = plan
  variables {
    peers = { us-east-1 = { cidr = "10.64.0.0/16" } }
  }
  expect_failures = [check.peers] # said, and not fatal

  assert {
    condition     = length(aws_vpc_peering_connection.peer) == 0 && length(aws_route.to_peer) == 0 && length(aws_route.from_peer) == 0
    error_message = "nothing can be made towards a region without a VPC"
  }
}

run "addresses_outside_the_deployment" {
  command = plan
  variables { cidr = "10.80.0.0/16" }
  expect_failures = [aws_vpc.main]
}

run "addresses_of_another_region" {
  command = plan
  variables {
    peers = { us-east-1 = { cidr = "10.65.0.0/16" } }
  }
  expect_failures = [aws_vpc.main]
  override_data {
    target = data.aws_vpcs.peer
    values = { ids = ["vpc-0000000000000000a"] }
  }
}

run "names_that_balancers_cannot_have" {
  command = plan
  variables { deployment = "much-too-long-a-name" }
  expect_failures = [var.deployment]
}

run "a_network_too_small_to_cut" {
  command = plan
  variables { cidr = "10.65.0.0/24" }
  expect_failures = [var.cidr]
}
