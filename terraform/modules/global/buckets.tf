# Artifacts are uploaded in the primary region and replicated, so that a region starts machines
# while the primary region is away. Backups stay in the region that wrote them and outlive it: a
# region's destroy does not reach them.

locals {
  buckets = merge(
    { for r in var.regions : "artifacts ${r}" => { kind = "artifacts", region = r } },
    { for r in concat(var.regions, var.retired) : "backup ${r}" => { kind = "backup", region = r } },
    { "static" = { kind = "static", region = local.primary } },
  )
}

resource "aws_s3_bucket" "main" {
  for_each = local.buckets
  region   = each.value.region
  bucket   = "${var.deployment}-${each.value.kind}-${local.account}-${each.value.region}"
  # Copies are deleted with their region. Terraform never deletes a bucket whose content exists only
  # once.
  force_destroy = each.value.kind == "artifacts" && each.value.region != local.primary
}

resource "aws_s3_bucket_public_access_block" "main" {
  for_each                = local.buckets
  region                  = each.value.region
  bucket                  = aws_s3_bucket.main[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "main" {
  for_each = local.buckets
  region   = each.value.region
  bucket   = aws_s3_bucket.main[each.key].id
  versioning_configuration {
    status = "Enabled"
  }
}

# The static files are public on the CDN anyway, and the CDN would need rights on the key.
# Everything else is encrypted with it.
resource "aws_s3_bucket_server_side_encryption_configuration" "main" {
  for_each = { for name, b in local.buckets : name => b if b.kind != "static" }
  region   = each.value.region
  bucket   = aws_s3_bucket.main[each.key].id
  rule {
    bucket_key_enabled = true # one call for many objects
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = local.keys[each.value.region]
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "backup" {
  for_each = { for name, b in local.buckets : name => b if b.kind == "backup" }
  region   = each.value.region
  bucket   = aws_s3_bucket.main[each.key].id
  rule {
    id     = "expire"
    status = "Enabled"
    filter {}
    expiration {
      days = var.backup_days
    }
    noncurrent_version_expiration {
      noncurrent_days = 7 # a week to notice that something was deleted
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
  depends_on = [aws_s3_bucket_versioning.main]
}

resource "aws_iam_role" "replication" {
  count = length(local.others) > 0 ? 1 : 0
  name  = "${var.deployment}-artifact-replication"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "s3.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "replication" {
  count = length(local.others) > 0 ? 1 : 0
  name  = "replicate"
  role  = aws_iam_role.replication[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["s3:GetReplicationConfiguration", "s3:ListBucket"], Resource = aws_s3_bucket.main["artifacts ${local.primary}"].arn },
      { Effect = "Allow", Action = ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging"], Resource = "${aws_s3_bucket.main["artifacts ${local.primary}"].arn}/*" },
      { Effect = "Allow", Action = ["s3:ReplicateObject", "s3:ReplicateTags"], Resource = [for r in local.others : "${aws_s3_bucket.main["artifacts ${r}"].arn}/*"] },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = local.keys[local.primary] },
      { Effect = "Allow", Action = "kms:Encrypt", Resource = [for r in local.others : local.keys[r]] },
    ]
  })
}

resource "aws_s3_bucket_replication_configuration" "artifacts" {
  count  = length(local.others) > 0 ? 1 : 0
  region = local.primary
  bucket = aws_s3_bucket.main["artifacts ${local.primary}"].id
  role   = aws_iam_role.replication[0].arn

  dynamic "rule" {
    for_each = { for i, r in local.others : r => i }
    content {
      id       = rule.key
      priority = rule.value # several rules over the same objects need one each
      status   = "Enabled"
      filter {}
      delete_marker_replication {
        status = "Disabled" # a deletion in one region must not stop machines from starting in another
      }
      source_selection_criteria {
        sse_kms_encrypted_objects {
          status = "Enabled"
        }
      }
      destination {
        bucket = aws_s3_bucket.main["artifacts ${rule.key}"].arn
        encryption_configuration {
          replica_kms_key_id = local.keys[rule.key]
        }
      }
    }
  }
  depends_on = [aws_s3_bucket_versioning.main]
}
