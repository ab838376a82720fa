# One VPC over three zones. Machines have private addresses only; the public subnets hold the
# balancer and the NAT gateways.

data "aws_availability_zones" "here" {
  state            = "available"
  exclude_zone_ids = ["use1-az3"] # an old one, without Graviton machines and much else
  filter {                        # no local zones, which lack half of the services
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zones  = slice(sort(data.aws_availability_zones.here.names), 0, 3)
  slots  = { for i, zone in local.zones : zone => i }
  prefix = "${var.deployment}-${var.name}"
}

resource "aws_vpc" "main" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true # names of the private zone need both
  # Later regions find this VPC by these tags; see peering.tf.
  tags = { Name = local.prefix, "punchclock:deployment" = var.deployment }

  lifecycle {
    precondition {
      condition     = cidrhost("${cidrhost(var.cidr, 0)}/${split("/", var.network)[1]}", 0) == cidrhost(var.network, 0)
      error_message = "cidr: ${var.cidr} does not lie inside network, ${var.network}: the other regions would not let this one in."
    }
    precondition {
      condition     = alltrue([for peer in var.peers : peer.cidr != var.cidr])
      error_message = "cidr: another region has ${var.cidr}."
    }
  }
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = local.prefix }
}

resource "aws_subnet" "public" {
  for_each          = local.slots
  vpc_id            = aws_vpc.main.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.cidr, 8, each.value) # 251 addresses
  tags              = { Name = "${local.prefix}-public-${each.key}" }
}

resource "aws_subnet" "private" {
  for_each          = local.slots
  vpc_id            = aws_vpc.main.id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.cidr, 4, each.value + 1) # 4,091 addresses, beyond the public ones
  tags              = { Name = "${local.prefix}-private-${each.key}" }
}

resource "aws_eip" "nat" {
  count  = var.nat_gateways
  domain = "vpc"
  tags   = { Name = "${local.prefix}-nat-${count.index + 1}" }
}

resource "aws_nat_gateway" "main" {
  count         = var.nat_gateways
  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = aws_subnet.public[local.zones[count.index]].id
  tags          = { Name = "${local.prefix}-${count.index + 1}" }
  depends_on    = [aws_internet_gateway.main]
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.main.id
  tags   = { Name = "${local.prefix}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.main.id
}

resource "aws_route_table_association" "public" {
  for_each       = local.slots
  route_table_id = aws_route_table.public.id
  subnet_id      = aws_subnet.public[each.key].id
}

resource "aws_route_table" "private" {
  for_each = local.slots
  vpc_id   = aws_vpc.main.id
  tags     = { Name = "${local.prefix}-private-${each.key}", "punchclock:routes" = "private" }
}

resource "aws_route" "nat" {
  for_each               = local.slots
  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.main[each.value % var.nat_gateways].id
}

resource "aws_route_table_association" "private" {
  for_each       = local.slots
  route_table_id = aws_route_table.private[each.key].id
  subnet_id      = aws_subnet.private[each.key].id
}

# Artifacts and backups do not pay for NAT, and machines start without it.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.main.id
  service_name      = "com.amazonaws.${var.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for zone in local.zones : aws_route_table.private[zone].id]
  tags              = { Name = "${local.prefix}-s3" }
}

# No machine is in the default group. Without rules it cannot be used by accident.
resource "aws_default_security_group" "none" {
  vpc_id = aws_vpc.main.id
}
