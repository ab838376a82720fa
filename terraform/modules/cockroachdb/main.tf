# CockroachDB's servers in one region. A server is its disk, its address and its name. The machine
# below them may be replaced at any time. terraform/day2.md says how, and what to do when a disk is
# lost.

data "aws_caller_identity" "me" {}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

locals {
  prefix  = "${var.deployment}-${var.name}"
  account = data.aws_caller_identity.me.account_id
  primary = var.regions[0]
  # db1, db2, … over the zones in turn: a further server moves none.
  servers = { for i in range(var.servers) : "db${i + 1}" => { zone = var.zones[i % 3] } }
  address = { for r in var.regions : r => [for i in range(3) : "db${i + 1}.${r}.${var.internal_zone.name}"] }
  # The first three servers of every region, by name. A region that is not up, or was removed, only
  # fails to resolve.
  join = join(",", flatten([for r in var.regions : [for a in local.address[r] : "${a}:26257"]]))
  artifact = {
    cockroach  = { key = "cockroach/${var.release.cockroach.version}/cockroach-linux-arm64", sha256 = var.release.cockroach.sha256 }
    punchclock = { key = "punchclock/${var.release.punchclock.version}/punchclock-linux-arm64", sha256 = var.release.punchclock.sha256 }
  }
  secrets = "${var.deployment}/${var.name}/database ${var.deployment}/database/operator"
}

resource "aws_network_interface" "server" {
  for_each        = local.servers
  subnet_id       = var.subnets[each.value.zone]
  security_groups = [var.security_group]
  description     = "${local.prefix} ${each.key}"
  tags            = { Name = "${local.prefix}-${each.key}" }
}

resource "aws_route53_record" "server" {
  for_each = local.servers
  zone_id  = var.internal_zone.id
  name     = "${each.key}.${var.name}.${var.internal_zone.name}"
  type     = "A"
  ttl      = 60
  records  = [aws_network_interface.server[each.key].private_ip]
}

resource "aws_ebs_volume" "data" {
  for_each          = local.servers
  availability_zone = each.value.zone
  type              = "gp3"
  size              = var.disk.size
  iops              = var.disk.iops
  throughput        = var.disk.throughput
  encrypted         = true
  kms_key_id        = var.key_arn
  final_snapshot    = true # a destroyed disk can be had back
  tags              = { Name = "${local.prefix}-${each.key}-data" }
}

resource "aws_instance" "server" {
  for_each             = local.servers
  ami                  = data.aws_ssm_parameter.image.insecure_value
  instance_type        = var.instance_type
  iam_instance_profile = aws_iam_instance_profile.server.name
  user_data_base64     = base64gzip(local.user_data[each.key])
  tags                 = { Name = "${local.prefix}-${each.key}", "punchclock:deployment" = var.deployment, "punchclock:role" = "database" }

  primary_network_interface {
    network_interface_id = aws_network_interface.server[each.key].id
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 20
    encrypted   = true
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  maintenance_options {
    auto_recovery = "default" # onto other hardware when its own fails, with everything
  }

  lifecycle {
    # A newer image, another script or another type must not stop all servers of a region at once.
    # They are replaced one at a time, by -replace.
    ignore_changes = [ami, user_data_base64, instance_type]
  }
}

resource "aws_volume_attachment" "data" {
  for_each                       = local.servers
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.data[each.key].id
  instance_id                    = aws_instance.server[each.key].id
  stop_instance_before_detaching = true # it drains, and its file system is clean
}

locals {
  unit = { for name, server in local.servers : name => templatefile("${path.module}/files/cockroach.service", {
    deployment = var.deployment, region = var.name, zone = server.zone, join = local.join
    address    = "${name}.${var.name}.${var.internal_zone.name}"
  }) }
  user_data = { for name, server in local.servers : name => join("\n", ["#cloud-config", jsonencode({
    hostname = "${name}.${var.name}.${var.internal_zone.name}"
    users    = ["default", { name = "cockroach", system = true, no_create_home = true, shell = "/sbin/nologin" }]
    write_files = [
      { path = "/usr/local/bin/fetch-artifact", permissions = "0755", content = file("${path.module}/../../machine/fetch-artifact") },
      { path = "/usr/local/bin/fetch-secrets", permissions = "0755", content = file("${path.module}/../../machine/fetch-secrets") },
      { path = "/usr/local/bin/database-secrets", permissions = "0755", content = templatefile("${path.module}/files/database-secrets", {
        region = var.name, secrets = local.secrets, authorities = "${var.deployment}/authorities"
      }) },
      { path = "/usr/local/bin/prepare-disk", permissions = "0755", content = templatefile("${path.module}/files/prepare-disk", { volume = replace(aws_ebs_volume.data[name].id, "-", "") }) },
      { path = "/etc/systemd/system/cockroach.service", content = local.unit[name] },
      { path = "/etc/systemd/system/database-secrets.service", content = file("${path.module}/files/database-secrets.service") },
      { path = "/etc/systemd/system/database-secrets.timer", content = file("${path.module}/files/database-secrets.timer") },
      { path = "/etc/profile.d/punchclock.sh", content = templatefile("${path.module}/files/console.sh", {
        deployment = var.deployment, address = "${name}.${var.name}.${var.internal_zone.name}", operations = "ops.${var.name}.${var.internal_zone.name}"
      }) },
    ]
    runcmd = [
      "ARTIFACTS='${var.artifacts}' AWS_DEFAULT_REGION='${var.name}' /usr/local/bin/fetch-artifact '${local.artifact.cockroach.key}' '${local.artifact.cockroach.sha256}' /opt/cockroach/cockroach",
      "ARTIFACTS='${var.artifacts}' AWS_DEFAULT_REGION='${var.name}' /usr/local/bin/fetch-artifact '${local.artifact.punchclock.key}' '${local.artifact.punchclock.sha256}' /usr/local/bin/punchclock",
      "chmod 755 /opt/cockroach/cockroach /usr/local/bin/punchclock",
      "systemctl daemon-reload",
      "systemctl enable --now --no-block cockroach.service database-secrets.timer",
    ]
  })]) }
}
