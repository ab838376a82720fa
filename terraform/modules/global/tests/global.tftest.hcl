mock_provider "aws" {
  source = "../../testing"
}

variables {
  deployment = "punchclock"
  domain     = "clock.example.com"
  regions    = ["us-east-1", "eu-west-1", "ap-south-1"]
}

run "what_regions_share" {
  assert {
    condition     = aws_route53_zone.public.name == "clock.example.com" && output.internal_zone.name == "internal.clock.example.com"
    error_message = "zones are ${aws_route53_zone.public.name} and ${output.internal_zone.name}"
  }
  assert {
    condition     = aws_kms_key.primary.multi_region && aws_kms_key.primary.enable_key_rotation && aws_kms_key.primary.region == "us-east-1" && keys(aws_kms_replica_key.other) == ["ap-south-1", "eu-west-1"]
    error_message = "one key, at home in the first region, with a replica in each other"
  }
  assert {
    condition     = keys(output.keys) == ["ap-south-1", "eu-west-1", "us-east-1"] && alltrue([for r, a in aws_kms_alias.main : a.name == "alias/punchclock" && a.region == r && a.target_key_id == output.keys[r]]) && length(aws_kms_alias.main) == 3
    error_message = "each region needs the key: ${jsonencode(output.keys)}"
  }
  assert {
    condition     = aws_kms_key.primary.deletion_window_in_days == 30 && alltrue([for k in aws_kms_replica_key.other : k.deletion_window_in_days == 30 && k.primary_key_arn == aws_kms_key.primary.arn])
    error_message = "without the key every backup is lost: it is deleted as slowly as can be"
  }
  assert {
    condition     = alltrue([for urgency, t in aws_sns_topic.urgency : t.region == "us-east-1" && t.name == "punchclock-global-${urgency}"]) && keys(output.topics) == ["page", "ticket"]
    error_message = "Route 53 has its metrics in us-east-1, and an alarm tells topics of its own region only"
  }
}

run "secrets" {
  assert {
    condition     = keys(aws_secretsmanager_secret.shared) == ["authorities", "database/licence", "database/node", "database/operator", "gossip"]
    error_message = "shared secrets are ${jsonencode(keys(aws_secretsmanager_secret.shared))}"
  }
  assert {
    condition     = alltrue([for s in aws_secretsmanager_secret.shared : toset([for r in s.replica : r.region]) == toset(["eu-west-1", "ap-south-1"]) && s.region == "us-east-1"])
    error_message = "each shared secret is in every region"
  }
  assert {
    condition     = alltrue([for s in aws_secretsmanager_secret.shared : s.kms_key_id == output.keys["us-east-1"] && alltrue([for r in s.replica : r.kms_key_id == output.keys[r.region]])]) && alltrue([for s in aws_secretsmanager_secret.regional : s.kms_key_id == output.keys[s.region]])
    error_message = "a secret is encrypted by the key of the region that reads it"
  }
  assert {
    condition = toset(keys(aws_secretsmanager_secret.regional)) == toset([
      "us-east-1/node", "us-east-1/database", "eu-west-1/node", "eu-west-1/database", "ap-south-1/node", "ap-south-1/database",
    ])
    error_message = "regional secrets are ${jsonencode(keys(aws_secretsmanager_secret.regional))}"
  }
  assert {
    condition     = alltrue([for name, s in aws_secretsmanager_secret.regional : startswith(name, s.region) && s.name == "punchclock/${name}" && length(s.replica) == 0])
    error_message = "a region's identity stays in it"
  }
  assert {
    condition     = alltrue([for s in aws_secretsmanager_secret.regional : s.recovery_window_in_days == 0]) && alltrue([for s in aws_secretsmanager_secret.shared : s.recovery_window_in_days == 30])
    error_message = "a region may come back at once; what all share can be had back"
  }
}

run "buckets" {
  assert {
    condition     = output.artifacts["eu-west-1"] == "punchclock-artifacts-123456789012-eu-west-1" && output.backups["ap-south-1"] == "punchclock-backup-123456789012-ap-south-1"
    error_message = "buckets are ${jsonencode(output.artifacts)} and ${jsonencode(output.backups)}"
  }
  assert {
    condition     = length(aws_s3_bucket.main) == 7 && alltrue([for b in aws_s3_bucket_versioning.main : b.versioning_configuration[0].status == "Enabled"]) && length(aws_s3_bucket_versioning.main) == 7
    error_message = "artifacts and backups in each region, the static files in one, all versioned"
  }
  assert {
    condition     = toset([for name, b in aws_s3_bucket.main : name if b.force_destroy]) == toset(["artifacts eu-west-1", "artifacts ap-south-1"])
    error_message = "copies go with their region, with all that is in them; nothing else does"
  }
  assert {
    condition     = length(aws_s3_bucket_public_access_block.main) == 7 && alltrue([for b in aws_s3_bucket_public_access_block.main : b.block_public_acls && b.block_public_policy && b.ignore_public_acls && b.restrict_public_buckets])
    error_message = "no bucket is public"
  }
  assert {
    condition     = length(aws_s3_bucket_server_side_encryption_configuration.main) == 6 && alltrue([for name, e in aws_s3_bucket_server_side_encryption_configuration.main : one(e.rule).apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms" && one(e.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == output.keys[e.region]])
    error_message = "artifacts and backups are encrypted by our key"
  }
  assert {
    condition     = toset([for r in aws_s3_bucket_replication_configuration.artifacts[0].rule : r.id]) == toset(["eu-west-1", "ap-south-1"]) && length(distinct([for r in aws_s3_bucket_replication_configuration.artifacts[0].rule : r.priority])) == 2
    error_message = "artifacts reach each other region"
  }
  assert {
    condition     = alltrue([for r in aws_s3_bucket_replication_configuration.artifacts[0].rule : one(r.source_selection_criteria).sse_kms_encrypted_objects[0].status == "Enabled" && one(r.destination).encryption_configuration[0].replica_kms_key_id == output.keys[r.id] && r.status == "Enabled"])
    error_message = "encrypted ones, too, and by the key of their region"
  }
  assert {
    condition = [for s in jsondecode(aws_iam_role_policy.replication[0].policy).Statement : s.Action] == [
      ["s3:GetReplicationConfiguration", "s3:ListBucket"], ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionTagging"], ["s3:ReplicateObject", "s3:ReplicateTags"], "kms:Decrypt", "kms:Encrypt",
    ] && [for s in jsondecode(aws_iam_role_policy.replication[0].policy).Statement : s.Resource if s.Action == "kms:Encrypt"][0] == [output.keys["eu-west-1"], output.keys["ap-south-1"]]
    error_message = "who replicates reads here and writes there: ${aws_iam_role_policy.replication[0].policy}"
  }
  assert {
    condition     = alltrue([for l in aws_s3_bucket_lifecycle_configuration.backup : one(l.rule).expiration[0].days == 35 && one(l.rule).noncurrent_version_expiration[0].noncurrent_days == 7]) && length(aws_s3_bucket_lifecycle_configuration.backup) == 3
    error_message = "backups go after 35 days"
  }
}

run "one_region_alone_replicates_nothing" {
  variables { regions = ["eu-west-1"] }
  assert {
    condition     = length(aws_s3_bucket_replication_configuration.artifacts) == 0 && length(aws_kms_replica_key.other) == 0 && length(aws_iam_role.replication) == 0
    error_message = "there is nowhere to replicate to"
  }
  assert {
    condition     = alltrue([for t in aws_sns_topic.urgency : t.region == "us-east-1"]) && aws_acm_certificate.static.region == "us-east-1"
    error_message = "Route 53's alarms and CloudFront's certificates are in us-east-1, wherever the deployment is"
  }
}

run "a_region_that_went_leaves_its_backups" {
  variables {
    regions = ["us-east-1", "eu-west-1"]
    retired = ["ap-south-1"]
  }
  assert {
    condition     = output.backups["ap-south-1"] == "punchclock-backup-123456789012-ap-south-1" && contains(keys(output.keys), "ap-south-1") && !contains(keys(output.artifacts), "ap-south-1")
    error_message = "kept are ${jsonencode(output.backups)}, with keys ${jsonencode(keys(output.keys))} and artifacts ${jsonencode(output.artifacts)}"
  }
  assert {
    condition     = alltrue([for s in aws_secretsmanager_secret.shared : toset([for r in s.replica : r.region]) == toset(["eu-west-1"])])
    error_message = "secrets are not left behind"
  }
}

run "static_files_by_cdn" {
  assert {
    condition     = aws_acm_certificate.static.region == "us-east-1" && aws_acm_certificate.static.domain_name == "static.clock.example.com"
    error_message = "CloudFront takes certificates of us-east-1 only"
  }
  assert {
    condition     = aws_route53_record.static_validation["clock.example.com"].name == "_2.clock.example.com" && aws_route53_record.static_validation["static.clock.example.com"].name == "_3.static.clock.example.com"
    error_message = "the proof of the general name, by which the regions' certificates renew, is made here"
  }
  assert {
    condition     = aws_cloudfront_distribution.static.aliases == toset(["static.clock.example.com"]) && one(aws_cloudfront_distribution.static.default_cache_behavior).viewer_protocol_policy == "redirect-to-https" && one(aws_cloudfront_distribution.static.viewer_certificate).minimum_protocol_version == "TLSv1.2_2021"
    error_message = "the distribution is ${jsonencode(aws_cloudfront_distribution.static.aliases)}"
  }
  assert {
    condition = (jsondecode(aws_s3_bucket_policy.static.policy).Statement[0].Condition.StringEquals["AWS:SourceArn"] == aws_cloudfront_distribution.static.arn && jsondecode(aws_s3_bucket_policy.static.policy).Statement[0].Action == "s3:GetObject" &&
      one(aws_cloudfront_distribution.static.origin).origin_access_control_id == aws_cloudfront_origin_access_control.static.id && aws_cloudfront_origin_access_control.static.signing_behavior == "always" &&
    alltrue([for kind, r in aws_route53_record.static : r.type == kind && one(r.alias).name == aws_cloudfront_distribution.static.domain_name]))
    error_message = "only our distribution may read the files: ${aws_s3_bucket_policy.static.policy}"
  }
  assert {
    condition     = one(one(aws_cloudfront_response_headers_policy.static.custom_headers_config).items).value == "public, max-age=31536000, immutable"
    error_message = "names carry a hash: files are kept for ever"
  }
}

run "subscribers_of_an_urgency_that_does_not_exist" {
  command = plan
  variables {
    subscribers = { panic = ["a@example.com"] }
  }
  expect_failures = [var.subscribers]
}

run "a_region_twice" {
  command = plan
  variables { regions = ["us-east-1", "us-east-1"] }
  expect_failures = [var.regions]
}

run "a_domain_with_a_dot_at_its_end" {
  command = plan
  variables { domain = "clock.example.com." }
  expect_failures = [var.domain]
}

run "backups_that_go_before_the_next_full_one" {
  command = plan
  variables { backup_days = 1 }
  expect_failures = [var.backup_days]
}
