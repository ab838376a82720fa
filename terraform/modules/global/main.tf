# Everything that all regions share and that must outlive a region: names, keys, secrets, artifacts
# and backups. No punch passes here.

data "aws_caller_identity" "me" {}

locals {
  account = data.aws_caller_identity.me.account_id
  primary = var.regions[0]
  others  = slice(var.regions, 1, length(var.regions))
  # CloudFront's certificates and Route 53's metrics live here, wherever the
  # deployment is.
  us_east_1 = "us-east-1"
}

resource "aws_route53_zone" "public" {
  name = var.domain
}

# Every region's VPC sees the names of the private zone; each region adds its own. A private zone
# cannot be made without a VPC: this VPC is empty and costs nothing.
resource "aws_vpc" "anchor" {
  region     = local.primary
  cidr_block = "192.168.255.0/28"
  tags       = { Name = "${var.deployment}-anchor" }
}

resource "aws_route53_zone" "internal" {
  name = "internal.${var.domain}"
  vpc {
    vpc_id     = aws_vpc.anchor.id
    vpc_region = local.primary
  }
  lifecycle {
    ignore_changes = [vpc] # the regions associate theirs
  }
}

# Two topics for everything global, page and ticket. Each region has its own two.
resource "aws_sns_topic" "urgency" {
  for_each = toset(["page", "ticket"])
  region   = local.us_east_1
  name     = "${var.deployment}-global-${each.key}"
}

resource "aws_sns_topic_subscription" "address" {
  for_each  = merge([for urgency, list in var.subscribers : { for address in list : "${urgency} ${address}" => { urgency = urgency, address = address } }]...)
  region    = local.us_east_1
  topic_arn = aws_sns_topic.urgency[each.value.urgency].arn
  protocol  = startswith(each.value.address, "https://") ? "https" : "email"
  endpoint  = each.value.address
}
