# One place initialises, licenses, migrates and backs up the cluster: the first server of the first
# region. It runs the setup when Terraform changes it, and once a day. The first server of any other
# region adds that region to the database. The apply waits for both, so that nodes never start
# before their schema and their region exist.

locals {
  anchors = slice(var.staying, 0, min(3, length(var.staying)))
  spread  = jsonencode({ for r in local.anchors : "+region=${r}" => 1 })
  # The first bucket also takes everything that belongs to no region.
  places = join(", ", [for r in var.regions :
    "'s3://${var.backups[r]}/clock?AUTH=implicit&AWS_REGION=${r}&COCKROACH_LOCALITY=${r == local.primary ? "default" : urlencode("region=${r}")}'"
  ])
  host  = "db1.${var.name}.${var.internal_zone.name}"
  claim = "/${var.deployment}/cockroach/initialised-by"
  setup = var.name != local.primary ? templatefile("${path.module}/files/join", { region = var.name, address = local.host }) : templatefile("${path.module}/files/setup", {
    deployment = var.deployment, region = var.name, artifacts = var.artifacts, claim = local.claim
    address    = local.host, volume = aws_ebs_volume.data["db1"].id
    punchclock = local.artifact.punchclock
    licence    = "${var.deployment}/database/licence", number = var.licence
    anchors    = join(" ", local.anchors), anchor_count = length(local.anchors)
    setup_sql  = templatefile("${path.module}/files/setup.sql", { organisation = var.organisation, telemetry = var.telemetry })
    ranges_sql = templatefile("${path.module}/files/system-ranges.sql", { spread = local.spread })
    backup_sql = templatefile("${path.module}/files/backup.sql", { places = local.places, label = "punchclock backup ${substr(sha256(local.places), 0, 8)}" })
  })
}

resource "aws_ssm_document" "setup" {
  name            = "${local.prefix}-database-setup"
  document_type   = "Command"
  document_format = "JSON"
  content = jsonencode({
    schemaVersion = "2.2"
    description   = "Bring the database to what Terraform describes."
    mainSteps = [{
      action = "aws:runShellScript"
      name   = "setup"
      inputs = { timeoutSeconds = "1800", runCommand = ["cat >/run/punchclock-setup.sh <<'END-OF-SETUP'\n${local.setup}\nEND-OF-SETUP", "bash /run/punchclock-setup.sh"] }
    }]
  })
}

resource "aws_ssm_association" "setup" {
  name                = aws_ssm_document.setup.name
  association_name    = "${local.prefix}-database-setup"
  document_version    = aws_ssm_document.setup.latest_version
  schedule_expression = var.name == local.primary ? "rate(1 day)" : null
  # The first machine takes some minutes to start, and a migration has no bound of its own.
  wait_for_success_timeout_seconds = 1800

  targets {
    key    = "InstanceIds"
    values = [aws_instance.server["db1"].id]
  }

  lifecycle {
    # The provider waits for an association that it makes, and not for one that it changes. Nodes of
    # a new release would start before the migration.
    replace_triggered_by = [aws_ssm_document.setup.content]
  }

  depends_on = [aws_volume_attachment.data, aws_route53_record.server, aws_iam_role_policy.server, aws_iam_role_policy_attachment.ssm]
}
