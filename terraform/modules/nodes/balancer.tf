# TLS ends at the balancer with a certificate that renews itself, and begins again behind it with
# the node's own. Addresses are fixed, so that DNS records with a short TTL can answer them.

resource "aws_eip" "balancer" {
  for_each = var.public_subnets
  domain   = "vpc"
  tags     = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_lb" "public" {
  name                             = local.prefix
  load_balancer_type               = "network"
  internal                         = false
  security_groups                  = [var.security_groups["balancer"]]
  enable_cross_zone_load_balancing = true # a zone without nodes still answers

  dynamic "subnet_mapping" {
    for_each = var.public_subnets
    content {
      subnet_id     = subnet_mapping.value
      allocation_id = aws_eip.balancer[subnet_mapping.key].id
    }
  }
}

resource "aws_lb_target_group" "public" {
  name                 = "${local.prefix}-public"
  vpc_id               = var.vpc_id
  port                 = 8080
  protocol             = "TLS"
  preserve_client_ip   = "true"
  deregistration_delay = "60" # longer than a node drains

  health_check {
    protocol            = "HTTPS"
    path                = "/readyz"
    port                = "traffic-port"
    matcher             = "200"
    interval            = 5
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  lifecycle {
    precondition {
      condition     = 60 > local.stop_timeout && local.kill_after > local.stop_timeout && local.stop_timeout >= local.drain_delay + local.deadline
      error_message = "A node must be able to drain before it is killed, and within the balancer's delay."
    }
  }
}

resource "aws_lb_listener" "public" {
  load_balancer_arn = aws_lb.public.arn
  port              = 443
  protocol          = "TLS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate_validation.public.certificate_arn
  alpn_policy       = "HTTP1Only" # what nodes speak

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.public.arn
  }
}

resource "aws_acm_certificate" "public" {
  domain_name               = "${var.name}.${var.domain}"
  subject_alternative_names = [var.domain]
  validation_method         = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

# The proof for the general name is one record for all regions' certificates and belongs to _global:
# a region that is destroyed must not remove it.
locals {
  proof = one([for o in aws_acm_certificate.public.domain_validation_options : o if o.domain_name == "${var.name}.${var.domain}"])
}

resource "aws_route53_record" "validation" {
  zone_id = var.zone_id
  name    = local.proof.resource_record_name
  type    = local.proof.resource_record_type
  records = [local.proof.resource_record_value]
  ttl     = 300
}

resource "aws_acm_certificate_validation" "public" {
  certificate_arn = aws_acm_certificate.public.arn
  depends_on      = [aws_route53_record.validation]
}

# Nodes come and go. Gossip finds some of them, in every region, by one name.

resource "aws_lb" "internal" {
  name                             = "${local.prefix}-int"
  load_balancer_type               = "network"
  internal                         = true
  security_groups                  = [var.security_groups["internal"]]
  subnets                          = [for zone in local.zones : var.private_subnets[zone]]
  enable_cross_zone_load_balancing = true
}

resource "aws_lb_target_group" "seeds" {
  name                 = "${local.prefix}-seeds"
  vpc_id               = var.vpc_id
  port                 = 7946
  protocol             = "TCP"
  preserve_client_ip   = "false" # else a node that is led to itself gets no answer
  deregistration_delay = "0"     # a join takes a moment

  health_check { # whoever gossips can be joined, ready or not
    protocol            = "TCP"
    port                = "traffic-port"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "seeds" {
  load_balancer_arn = aws_lb.internal.arn
  port              = 7946
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.seeds.arn
  }
}

resource "aws_route53_record" "seeds" {
  zone_id = var.internal_zone.id
  name    = "seeds.${var.name}.${var.internal_zone.name}"
  type    = "A"
  alias {
    name                   = aws_lb.internal.dns_name
    zone_id                = aws_lb.internal.zone_id
    evaluate_target_health = false
  }
}

# The operator's console reaches any node by one name.

resource "aws_lb_target_group" "operations" {
  name                 = "${local.prefix}-ops"
  vpc_id               = var.vpc_id
  port                 = 9090
  protocol             = "TCP"
  preserve_client_ip   = "false" # as the ports say: from the balancer
  deregistration_delay = "0"

  health_check { # an evacuated node is asked as well as any other
    protocol            = "TCP"
    port                = "traffic-port"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "operations" {
  load_balancer_arn = aws_lb.internal.arn
  port              = 9090
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.operations.arn
  }
}

resource "aws_route53_record" "operations" {
  zone_id = var.internal_zone.id
  name    = "ops.${var.name}.${var.internal_zone.name}"
  type    = "A"
  alias {
    name                   = aws_lb.internal.dns_name
    zone_id                = aws_lb.internal.zone_id
    evaluate_target_health = false
  }
}
