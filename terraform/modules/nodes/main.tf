# The nodes of one region. A node has no state: a broken node is replaced.

data "aws_caller_identity" "me" {}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

locals {
  prefix  = "${var.deployment}-${var.name}"
  group   = "${local.prefix}-nodes" # known before the group is, which names itself to its machines
  account = data.aws_caller_identity.me.account_id
  zones   = sort(keys(var.private_subnets))
  secrets = ["${var.name}/node", "gossip", "database/node"]

  # The balancer takes a node out after two failed checks, five seconds apart. A punch may take as
  # long as its deadline. systemd waits longer than both.
  drain_delay  = 15
  deadline     = 15
  stop_timeout = 35
  kill_after   = 45

  settings = templatefile("${path.module}/files/node.yaml.tftpl", {
    deployment           = var.deployment, region = var.name, domain = var.domain, tokens = var.tokens
    seeds                = [for r in var.regions : "seeds.${r}.${var.internal_zone.name}:7946"]
    database_url         = "postgres://punchclock_node@${join(",", var.database_hosts)}/clock?sslmode=verify-full&sslrootcert=/run/punchclock/secrets/database-ca.crt&sslcert=/run/punchclock/secrets/client.punchclock_node.crt&sslkey=/run/punchclock/secrets/client.punchclock_node.key"
    connections_per_home = var.connections_per_home
    drain_delay          = local.drain_delay, deadline = local.deadline, stop_timeout = local.stop_timeout
  })
  unit = templatefile("${path.module}/files/punchclock.service", {
    deployment   = var.deployment, region = var.name, trace_ratio = var.trace_ratio
    collector    = "http://collector.${var.name}.${var.internal_zone.name}:4318"
    stop_timeout = local.stop_timeout, kill_after = local.kill_after
  })
  artifact = "punchclock/${var.release.version}/punchclock-linux-arm64"
  user_data = join("\n", ["#cloud-config", jsonencode({
    users = ["default", { name = "punchclock", system = true, no_create_home = true, shell = "/sbin/nologin" }]
    write_files = [
      { path = "/usr/local/bin/fetch-artifact", permissions = "0755", content = file("${path.module}/../../machine/fetch-artifact") },
      { path = "/usr/local/bin/fetch-secrets", permissions = "0755", content = file("${path.module}/../../machine/fetch-secrets") },
      { path = "/usr/local/bin/node-prepare", permissions = "0755", content = file("${path.module}/files/node-prepare") },
      { path = "/usr/local/bin/node-secrets", permissions = "0755", content = templatefile("${path.module}/files/node-secrets", {
        region = var.name, secrets = join(" ", [for s in local.secrets : "${var.deployment}/${s}"])
      }) },
      { path = "/usr/local/bin/node-started", permissions = "0755", content = templatefile("${path.module}/files/node-started", { region = var.name, group = local.group }) },
      { path = "/etc/punchclock/node.yaml", permissions = "0644", content = local.settings },
      { path = "/etc/systemd/system/punchclock.service", content = local.unit },
      { path = "/etc/systemd/system/node-secrets.service", content = file("${path.module}/files/node-secrets.service") },
      { path = "/etc/systemd/system/node-secrets.timer", content = file("${path.module}/files/node-secrets.timer") },
    ]
    runcmd = [
      "ARTIFACTS='${var.artifacts}' AWS_DEFAULT_REGION='${var.name}' /usr/local/bin/fetch-artifact '${local.artifact}' '${var.release.sha256}' /opt/punchclock/punchclock",
      "chmod 755 /opt/punchclock/punchclock",
      "systemctl daemon-reload",
      "systemctl enable --now --no-block punchclock.service node-secrets.timer",
      "/usr/local/bin/node-started",
    ]
  })])
}

resource "aws_launch_template" "node" {
  name                   = local.group
  image_id               = coalesce(var.image, nonsensitive(data.aws_ssm_parameter.image.insecure_value))
  instance_type          = var.instance_type
  vpc_security_group_ids = [var.security_groups["nodes"]]
  user_data              = base64gzip(local.user_data)
  update_default_version = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.node.arn
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
      encrypted   = true # by AWS's own key: there is nothing of ours on it
    }
  }

  monitoring {
    enabled = true # target tracking by the minute
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = local.group, "punchclock:deployment" = var.deployment, "punchclock:role" = "node" }
  }
}

resource "aws_autoscaling_group" "node" {
  name                = local.group
  min_size            = var.size.least
  max_size            = var.size.most
  vpc_zone_identifier = [for zone in local.zones : var.private_subnets[zone]]
  target_group_arns   = [aws_lb_target_group.public.arn, aws_lb_target_group.seeds.arn, aws_lb_target_group.operations.arn]
  # EC2's view, not the balancer's. A region that is evacuated, or whose database is away, has only
  # nodes that are not ready. Replacing them all helps no one.
  health_check_type         = "EC2"
  health_check_grace_period = 0
  default_instance_warmup   = 60
  wait_for_capacity_timeout = "0" # readiness is the database's affair as well
  capacity_rebalance        = false
  metrics_granularity       = "1Minute"
  enabled_metrics           = ["GroupInServiceInstances", "GroupDesiredCapacity"]

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  # Made in the same step as the group: the first machines would start without it.
  initial_lifecycle_hook {
    name                 = "started"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    heartbeat_timeout    = 900
    default_result       = "ABANDON"
  }

  # A new node has started before an old node leaves. The old node leaves the balancers, waits for
  # their delay, gets SIGTERM and drains.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 134 # a third more, at least one
      auto_rollback          = true
      skip_matching          = true
    }
  }

  lifecycle {
    ignore_changes = [min_size, desired_capacity] # the peaks and the load set them
    precondition {
      condition     = length(local.actions) <= 125
      error_message = "peaks: they need ${length(local.actions)} scheduled actions, and AWS takes 125 for a group. Let peaks that are alike share their times."
    }
  }

  depends_on = [aws_iam_role_policy.node]
}

resource "aws_iam_role" "node" {
  name = local.group
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_instance_profile" "node" {
  name = local.group
  role = aws_iam_role.node.name
}

resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.node.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "node" {
  name = "node"
  role = aws_iam_role.node.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Artifact", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["arn:aws:s3:::${var.artifacts}/punchclock/*"] },
      # Secrets Manager ends each name with six characters of its own.
      { Sid = "Secrets", Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = [for s in local.secrets : "arn:aws:secretsmanager:${var.name}:${local.account}:secret:${var.deployment}/${s}-??????"] },
      { Sid = "Key", Effect = "Allow", Action = ["kms:Decrypt"], Resource = [var.key_arn] },
      { Sid = "Started", Effect = "Allow", Action = ["autoscaling:CompleteLifecycleAction"], Resource = ["arn:aws:autoscaling:${var.name}:${local.account}:autoScalingGroup:*:autoScalingGroupName/${local.group}"] },
    ]
  })
}
