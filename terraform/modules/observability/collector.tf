# Exactly one collector: only a collector that has the whole trace can decide whether to keep it.
# Punches never wait for it. Its loss costs visibility only, and the group starts another.

locals {
  group = "${local.prefix}-collector"
  zones = sort(keys(var.subnets))
  environment = {
    PUNCHCLOCK_COLLECTOR_HTTP   = "0.0.0.0:4318"
    PUNCHCLOCK_COLLECTOR_HEALTH = "0.0.0.0:13133"
    PUNCHCLOCK_REGION           = var.name
    PUNCHCLOCK_NODE_TARGETS     = "/etc/otelcol/nodes.json"
    PUNCHCLOCK_DATABASE_TARGETS = "/etc/otelcol/database.json"
    PUNCHCLOCK_DATABASE_CA      = "/run/otelcol/database-ca.crt"
    PUNCHCLOCK_METRICS_ENDPOINT = "${aws_prometheus_workspace.main.prometheus_endpoint}api/v1/remote_write"
    PUNCHCLOCK_TRACE_EXPORTER   = var.trace_endpoint == "" ? "nop" : "otlp_http"
    PUNCHCLOCK_TRACE_ENDPOINT   = coalesce(var.trace_endpoint, "https://unused.invalid")
  }
  artifact = "collector/${var.release.version}/otelcol-contrib-linux-arm64"
  user_data = join("\n", ["#cloud-config", jsonencode({
    users = ["default", { name = "otelcol", system = true, no_create_home = true, shell = "/sbin/nologin" }]
    write_files = [
      { path = "/usr/local/bin/fetch-artifact", permissions = "0755", content = file("${path.module}/../../machine/fetch-artifact") },
      { path = "/usr/local/bin/fetch-secrets", permissions = "0755", content = file("${path.module}/../../machine/fetch-secrets") },
      { path = "/usr/local/bin/collector-secrets", permissions = "0755", content = templatefile("${path.module}/files/collector-secrets", { region = var.name, secret = "${var.deployment}/authorities" }) },
      { path = "/etc/otelcol/collector.yaml", permissions = "0644", content = file("${local.signals}/collector/collector.yaml") },
      { path = "/etc/otelcol/metrics.yaml", permissions = "0644", content = file("${local.signals}/collector/metrics.yaml") },
      { path = "/etc/otelcol/aws.yaml", permissions = "0644", content = templatefile("${path.module}/files/aws.yaml.tftpl", { deployment = var.deployment, region = var.name }) },
      { path = "/etc/otelcol/environment", permissions = "0644", content = join("", [for name, value in local.environment : "${name}=${value}\n"]) },
      { path = "/etc/otelcol/nodes.json", permissions = "0644", content = "[]\n" }, # found by their tags instead
      { path = "/etc/otelcol/database.json", permissions = "0644", content = jsonencode([{
        targets = [for name in sort(keys(var.servers)) : "${name}.${var.name}.${var.internal_zone.name}:8080"]
      }]) },
      { path = "/etc/systemd/system/collector.service", content = file("${path.module}/files/collector.service") },
    ]
    runcmd = [
      "ARTIFACTS='${var.artifacts}' AWS_DEFAULT_REGION='${var.name}' /usr/local/bin/fetch-artifact '${local.artifact}' '${var.release.sha256}' /opt/otelcol/otelcol-contrib",
      "chmod 755 /opt/otelcol/otelcol-contrib",
      "systemctl daemon-reload",
      "systemctl enable --now collector.service",
    ]
  })])
}

resource "aws_launch_template" "collector" {
  name                   = local.group
  image_id               = nonsensitive(data.aws_ssm_parameter.image.insecure_value)
  instance_type          = var.instance_type
  vpc_security_group_ids = [var.security_group]
  user_data              = base64gzip(local.user_data)
  update_default_version = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.collector.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type = "gp3"
      volume_size = 10
      encrypted   = true
    }
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = local.group, "punchclock:deployment" = var.deployment, "punchclock:role" = "collector" }
  }
}

resource "aws_autoscaling_group" "collector" {
  name                      = local.group
  min_size                  = 1
  max_size                  = 1
  vpc_zone_identifier       = [for zone in local.zones : var.subnets[zone]]
  target_group_arns         = [aws_lb_target_group.collector.arn]
  health_check_type         = "ELB" # nothing but itself makes it answer badly
  health_check_grace_period = 300
  wait_for_capacity_timeout = "0"

  launch_template {
    id      = aws_launch_template.collector.id
    version = aws_launch_template.collector.latest_version
  }

  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 0 # there is one, and there must not be two
    }
  }

  depends_on = [aws_iam_role_policy.collector]
}

resource "aws_lb_target_group" "collector" {
  name                 = "${local.prefix}-otlp" # balancers' names have 32 characters; see deployment
  vpc_id               = var.vpc_id
  port                 = 4318
  protocol             = "TCP"
  preserve_client_ip   = "false"
  deregistration_delay = "0"

  health_check {
    protocol            = "HTTP"
    path                = "/"
    port                = "13133"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "collector" {
  load_balancer_arn = var.internal_balancer.arn
  port              = 4318
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.collector.arn
  }
}

resource "aws_route53_record" "collector" {
  zone_id = var.internal_zone.id
  name    = "collector.${var.name}.${var.internal_zone.name}"
  type    = "A"
  alias {
    name                   = var.internal_balancer.dns_name
    zone_id                = var.internal_balancer.zone_id
    evaluate_target_health = false
  }
}

resource "aws_iam_role" "collector" {
  name = local.group
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_instance_profile" "collector" {
  name = local.group
  role = aws_iam_role.collector.name
}

resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.collector.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "collector" {
  name = "collector"
  role = aws_iam_role.collector.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Artifact", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["arn:aws:s3:::${var.artifacts}/collector/*"] },
      { Sid = "Secrets", Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = ["arn:aws:secretsmanager:${var.name}:${local.account}:secret:${var.deployment}/authorities-??????"] },
      { Sid = "Key", Effect = "Allow", Action = ["kms:Decrypt"], Resource = [var.key_arn] },
      { Sid = "Write", Effect = "Allow", Action = ["aps:RemoteWrite"], Resource = [aws_prometheus_workspace.main.arn] },
      # The right to describe machines cannot be limited to some machines.
      { Sid = "Find", Effect = "Allow", Action = ["ec2:DescribeInstances", "ec2:DescribeAvailabilityZones"], Resource = ["*"] },
    ]
  })
}
