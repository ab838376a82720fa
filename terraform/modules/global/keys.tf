# One key with the same id in every region, so that every region can read the replicas and backups of
# another. It encrypts secrets, database disks, artifacts and backups.

resource "aws_kms_key" "primary" {
  region                  = local.primary
  description             = "${var.deployment}: secrets, disks, artifacts, backups"
  multi_region            = true
  enable_key_rotation     = true
  deletion_window_in_days = 30 # the longest: without it every backup is lost
}

resource "aws_kms_replica_key" "other" {
  for_each                = toset(concat(local.others, var.retired))
  region                  = each.key
  primary_key_arn         = aws_kms_key.primary.arn
  description             = "${var.deployment}: replica of the key in ${local.primary}"
  deletion_window_in_days = 30
}

locals {
  keys = merge({ (local.primary) = aws_kms_key.primary.arn }, { for name, key in aws_kms_replica_key.other : name => key.arn })
}

resource "aws_kms_alias" "main" {
  for_each      = local.keys
  region        = each.key
  name          = "alias/${var.deployment}"
  target_key_id = each.value
}
