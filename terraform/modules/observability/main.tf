# A region's own monitoring: one collector, one store of metrics, and two topics. A region watches
# itself, so that losing one region blinds no other. Other regions see the failures that a lost
# region cannot report.

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

data "aws_caller_identity" "me" {}

locals {
  prefix  = "${var.deployment}-${var.name}"
  account = data.aws_caller_identity.me.account_id
  signals = "${path.module}/../../../tracing/monitoring"
}

resource "aws_sns_topic" "urgency" {
  for_each = toset(["page", "ticket"])
  name     = "${local.prefix}-${each.key}"
}

resource "aws_sns_topic_policy" "urgency" {
  for_each = aws_sns_topic.urgency
  arn      = each.value.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Alerts", Effect = "Allow", Principal = { Service = "aps.amazonaws.com" }, Action = ["sns:Publish", "sns:GetTopicAttributes"], Resource = each.value.arn,
      Condition = { ArnEquals = { "aws:SourceArn" = aws_prometheus_workspace.main.arn } } },
      { Sid = "Alarms", Effect = "Allow", Principal = { Service = "cloudwatch.amazonaws.com" }, Action = ["sns:Publish"], Resource = each.value.arn,
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } } },
    ]
  })
}

resource "aws_sns_topic_subscription" "address" {
  for_each  = merge([for urgency, list in var.subscribers : { for address in list : "${urgency} ${address}" => { urgency = urgency, address = address } }]...)
  topic_arn = aws_sns_topic.urgency[each.value.urgency].arn
  protocol  = startswith(each.value.address, "https://") ? "https" : "email"
  endpoint  = each.value.address
}

resource "aws_prometheus_workspace" "main" {
  alias       = local.prefix
  kms_key_arn = var.key_arn
}

# These are the files that promtool tests: nothing is written twice.
resource "aws_prometheus_rule_group_namespace" "rules" {
  for_each     = fileset("${local.signals}/rules", "*.yaml")
  name         = trimsuffix(each.key, ".yaml")
  workspace_id = aws_prometheus_workspace.main.id
  data         = file("${local.signals}/rules/${each.key}")
}

resource "aws_prometheus_alert_manager_definition" "main" {
  workspace_id = aws_prometheus_workspace.main.id
  definition = yamlencode({
    alertmanager_config = yamlencode({
      route = {
        receiver        = "ticket"
        group_by        = ["alertname"]
        group_wait      = "30s"
        repeat_interval = "4h"
        routes          = [{ receiver = "page", matchers = ["severity=\"page\""] }]
      }
      # An engineer who got the page needs no ticket of the same name.
      inhibit_rules = [{ source_matchers = ["severity=\"page\""], target_matchers = ["severity=\"ticket\""], equal = ["alertname"] }]
      receivers = [for urgency in ["page", "ticket"] : {
        name        = urgency
        sns_configs = [{ topic_arn = aws_sns_topic.urgency[urgency].arn, sigv4 = { region = var.name }, send_resolved = true }]
      }]
    })
  })
}
