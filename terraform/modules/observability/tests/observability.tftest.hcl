mock_provider "aws" {
  source = "../../testing"
}

variables {
  deployment        = "punchclock"
  name              = "eu-west-1"
  internal_zone     = { name = "internal.clock.example.com", id = "Z0INTERNAL" }
  vpc_id            = "vpc-0123456789abcdef0"
  subnets           = { eu-west-1a = "subnet-a", eu-west-1b = "subnet-b", eu-west-1c = "subnet-c" }
  security_group    = "sg-collector"
  internal_balancer = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/internal/0123456789abcdef", dns_name = "internal.elb.amazonaws.com", zone_id = "Z0ELB" }
  balancer          = { balancer = "net/public/0123456789abcdef", target_group = "targetgroup/public/0123456789abcdef" }
  servers = {
    db1 = { instance = "i-1", volume = "vol-1", zone = "eu-west-1a" }
    db2 = { instance = "i-2", volume = "vol-2", zone = "eu-west-1b" }
    db3 = { instance = "i-3", volume = "vol-3", zone = "eu-west-1c" }
  }
  nodes       = { group = "punchclock-eu-west-1-nodes", least = 3 }
  key_arn     = "arn:aws:kms:eu-west-1:123456789012:key/mrk-00000000000000000000000000000000"
  artifacts   = "punchclock-artifacts-123456789012-eu-west-1"
  release     = { version = "v0.158.0", sha256 = "3333333333333333333333333333333333333333333333333333333333333333" }
  subscribers = { page = ["oncall@example.com", "https://pager.example.com/hook"], ticket = [] }
}

# Without this both topics would have the same name.
override_resource {
  target = aws_sns_topic.urgency["page"]
  values = { arn = "arn:aws:sns:eu-west-1:123456789012:page" }
}

run "one_collector" {
  assert {
    condition     = aws_autoscaling_group.collector.min_size == 1 && aws_autoscaling_group.collector.max_size == 1 && one(one(aws_autoscaling_group.collector.instance_refresh).preferences).min_healthy_percentage == 0
    error_message = "never two: who decides about a trace has all of it"
  }
  assert {
    condition     = aws_lb_listener.collector.port == 4318 && aws_lb_target_group.collector.port == 4318 && one(aws_lb_target_group.collector.health_check).port == "13133" && aws_route53_record.collector.name == "collector.eu-west-1.internal.clock.example.com"
    error_message = "it is found by one name inside"
  }
  assert {
    condition = (aws_lb_target_group.collector.preserve_client_ip == "false" && aws_autoscaling_group.collector.target_group_arns == toset([aws_lb_target_group.collector.arn]) && one(aws_lb_listener.collector.default_action).target_group_arn == aws_lb_target_group.collector.arn &&
      aws_lb_listener.collector.load_balancer_arn == var.internal_balancer.arn && aws_launch_template.collector.vpc_security_group_ids == toset(["sg-collector"]) && one(aws_launch_template.collector.iam_instance_profile).arn == aws_iam_instance_profile.collector.arn &&
    one(aws_autoscaling_group.collector.launch_template).id == aws_launch_template.collector.id && one(aws_autoscaling_group.collector.launch_template).version == tostring(aws_launch_template.collector.latest_version))
    error_message = "the balancer leads to the machine that the template describes"
  }
  assert {
    condition     = contains(jsondecode(split("\n", output.user_data)[1]).runcmd, "systemctl enable --now collector.service") && contains(jsondecode(split("\n", output.user_data)[1]).runcmd, "chmod 755 /opt/otelcol/otelcol-contrib")
    error_message = "it runs ${jsonencode(jsondecode(split("\n", output.user_data)[1]).runcmd)}"
  }
  assert {
    condition = (one(yamldecode([for f in jsondecode(split("\n", output.user_data)[1]).write_files : f.content if f.path == "/etc/otelcol/aws.yaml"][0]).receivers["prometheus/nodes"].config.scrape_configs).ec2_sd_configs == [{
      region = "eu-west-1", port = 9090, refresh_interval = "30s", filters = [
        { name = "tag:punchclock:deployment", values = ["punchclock"] }, { name = "tag:punchclock:role", values = ["node"] }, { name = "instance-state-name", values = ["running"] },
      ]
      }] && yamldecode([for f in jsondecode(split("\n", output.user_data)[1]).write_files : f.content if f.path == "/etc/otelcol/aws.yaml"][0]).service.pipelines.metrics.receivers == ["prometheus", "prometheus/nodes"] &&
    yamldecode([for f in jsondecode(split("\n", output.user_data)[1]).write_files : f.content if f.path == "/etc/otelcol/aws.yaml"][0]).extensions.sigv4auth == { region = "eu-west-1", service = "aps" })
    error_message = "nodes are found by their tags at the operator's port, and what is written is signed"
  }
  assert {
    condition = alltrue([for path, text in {
      "/etc/otelcol/aws.yaml"      = "server_name: node.eu-west-1.punchclock"
      "/etc/otelcol/database.json" = "db2.eu-west-1.internal.clock.example.com:8080"
      "/etc/otelcol/environment"   = "PUNCHCLOCK_METRICS_ENDPOINT=https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-00000000-0000-0000-0000-000000000000/api/v1/remote_write\n"
    } : strcontains([for f in jsondecode(split("\n", output.user_data)[1]).write_files : f.content if f.path == path][0], text)])
    error_message = "it scrapes nodes and database, and writes what it finds: ${output.user_data}"
  }
  assert {
    condition     = strcontains(output.user_data, "PUNCHCLOCK_TRACE_EXPORTER=nop")
    error_message = "without a trace store nothing is sent to one"
  }
  assert {
    condition     = length(aws_launch_template.collector.user_data) < 16384 * 4 / 3
    error_message = "EC2 takes 16 KB of user data, these are ${length(aws_launch_template.collector.user_data)} characters of base64"
  }
  # Every variable set here must be one that the configuration reads.
  assert {
    condition = alltrue([for name in regexall("(PUNCHCLOCK_[A-Z_]+)=", output.user_data) : strcontains(join("", [
      for f in ["collector", "metrics"] : file("../../../tracing/monitoring/collector/${f}.yaml")
    ]), "env:${name[0]}:")])
    error_message = "the collector's configuration does not know one of ${jsonencode(regexall("(PUNCHCLOCK_[A-Z_]+)=", output.user_data))}"
  }
  assert {
    condition     = [for f in jsondecode(split("\n", output.user_data)[1]).write_files : f.content if f.path == "/etc/otelcol/collector.yaml"][0] == file("../../../tracing/monitoring/collector/collector.yaml")
    error_message = "the configuration is the one that is tested"
  }
  assert {
    condition = { for s in jsondecode(aws_iam_role_policy.collector.policy).Statement : s.Sid => { does = s.Action, to = s.Resource } } == {
      Artifact = { does = ["s3:GetObject"], to = ["arn:aws:s3:::punchclock-artifacts-123456789012-eu-west-1/collector/*"] }
      Secrets  = { does = ["secretsmanager:GetSecretValue"], to = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:punchclock/authorities-??????"] }
      Key      = { does = ["kms:Decrypt"], to = [var.key_arn] }
      Write    = { does = ["aps:RemoteWrite"], to = [aws_prometheus_workspace.main.arn] }
      Find     = { does = ["ec2:DescribeInstances", "ec2:DescribeAvailabilityZones"], to = ["*"] }
    } && aws_iam_role_policy.collector.role == aws_iam_role.collector.id
    error_message = "it may do what it does, and only describing machines cannot be limited: ${aws_iam_role_policy.collector.policy}"
  }
}

run "names_of_the_longest_region_and_deployment_fit" {
  command = plan
  variables {
    deployment = "punchclock"
    name       = "ap-southeast-1"
  }
  assert {
    condition     = length(aws_lb_target_group.collector.name) <= 32 && length(aws_iam_role.collector.name) <= 64
    error_message = "AWS takes 32 characters, ${aws_lb_target_group.collector.name} has ${length(aws_lb_target_group.collector.name)}"
  }
}

run "who_is_woken" {
  assert {
    condition     = toset([for s in aws_sns_topic_subscription.address : "${s.protocol} ${s.endpoint}"]) == toset(["email oncall@example.com", "https https://pager.example.com/hook"])
    error_message = "told are ${jsonencode([for s in aws_sns_topic_subscription.address : s.endpoint])}"
  }
  assert {
    condition     = toset([for name, a in aws_cloudwatch_metric_alarm.region : name]) == toset(["no node is ready", "a node is not ready", "fewer nodes than the least", "collector does not answer", "db1 fails its checks", "db2 fails its checks", "db3 fails its checks"])
    error_message = "alarms are ${jsonencode(keys(aws_cloudwatch_metric_alarm.region))}"
  }
  assert {
    condition     = alltrue([for name, a in aws_cloudwatch_metric_alarm.region : length(a.alarm_actions) == 1 && a.treat_missing_data == "breaching" && a.period == 60])
    error_message = "each alarm tells somebody, also when nothing is measured"
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.region["no node is ready"].comparison_operator == "LessThanThreshold" && aws_cloudwatch_metric_alarm.region["no node is ready"].threshold == 1 && aws_cloudwatch_metric_alarm.region["db1 fails its checks"].comparison_operator == "GreaterThanThreshold" && aws_cloudwatch_metric_alarm.region["db1 fails its checks"].dimensions.InstanceId == "i-1"
    error_message = "thresholds are ${jsonencode(aws_cloudwatch_metric_alarm.region)}"
  }
  assert {
    condition     = (aws_cloudwatch_metric_alarm.region["a node is not ready"].metric_name == "UnHealthyHostCount" && aws_cloudwatch_metric_alarm.region["a node is not ready"].threshold == 0 && aws_cloudwatch_metric_alarm.region["fewer nodes than the least"].dimensions.AutoScalingGroupName == "punchclock-eu-west-1-nodes" && aws_cloudwatch_metric_alarm.region["fewer nodes than the least"].threshold == 3)
    error_message = "nodes are counted by the group, their readiness by the balancer: ${jsonencode(aws_cloudwatch_metric_alarm.region)}"
  }
  assert {
    condition     = [for r in yamldecode(yamldecode(aws_prometheus_alert_manager_definition.main.definition).alertmanager_config).receivers : r.name] == ["page", "ticket"] && yamldecode(yamldecode(aws_prometheus_alert_manager_definition.main.definition).alertmanager_config).route.routes == [{ receiver = "page", matchers = ["severity=\"page\""] }] && yamldecode(yamldecode(aws_prometheus_alert_manager_definition.main.definition).alertmanager_config).route.receiver == "ticket"
    error_message = "what says nothing of its urgency is a ticket"
  }
  assert {
    condition     = yamldecode(yamldecode(aws_prometheus_alert_manager_definition.main.definition).alertmanager_config).inhibit_rules[0].equal == ["alertname"]
    error_message = "a page keeps the ticket of the same name back"
  }
  assert {
    condition = alltrue([for p in aws_sns_topic_policy.urgency : { for s in jsondecode(p.policy).Statement : s.Principal.Service => s.Action } == {
      "aps.amazonaws.com" = ["sns:Publish", "sns:GetTopicAttributes"], "cloudwatch.amazonaws.com" = ["sns:Publish"]
    }])
    error_message = "alerts and alarms may speak to the topics: ${jsonencode(aws_sns_topic_policy.urgency)}"
  }
  assert {
    condition     = alltrue([for a in aws_cloudwatch_metric_alarm.region : a.alarm_actions == toset([output.topics["ticket"]])])
    error_message = "what AWS sees of itself wakes nobody: ${jsonencode(aws_cloudwatch_metric_alarm.region)}"
  }
}

run "the_rules_that_are_tested_are_the_rules_that_run" {
  assert {
    condition     = toset(keys(aws_prometheus_rule_group_namespace.rules)) == fileset("../../../tracing/monitoring/rules", "*.yaml") && length(aws_prometheus_rule_group_namespace.rules) > 0
    error_message = "rules are ${jsonencode(keys(aws_prometheus_rule_group_namespace.rules))}"
  }
  assert {
    condition     = alltrue([for name, r in aws_prometheus_rule_group_namespace.rules : r.data == file("../../../tracing/monitoring/rules/${name}") && length(yamldecode(r.data).groups) > 0])
    error_message = "a rule file holds no group"
  }
}

run "a_trace_store_without_tls" {
  command = plan
  variables { trace_endpoint = "http://tempo.example.com" }
  expect_failures = [var.trace_endpoint]
}
