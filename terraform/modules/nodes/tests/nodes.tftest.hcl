mock_provider "aws" {
  source = "../../testing"
}

variables {
  deployment      = "punchclock"
  name            = "eu-west-1"
  domain          = "clock.example.com"
  zone_id         = "Z0PUBLIC"
  internal_zone   = { name = "internal.clock.example.com", id = "Z0INTERNAL" }
  regions         = ["us-east-1", "eu-west-1", "ap-south-1"]
  vpc_id          = "vpc-0123456789abcdef0"
  public_subnets  = { eu-west-1a = "subnet-pa", eu-west-1b = "subnet-pb", eu-west-1c = "subnet-pc" }
  private_subnets = { eu-west-1a = "subnet-a", eu-west-1b = "subnet-b", eu-west-1c = "subnet-c" }
  security_groups = { balancer = "sg-balancer", internal = "sg-internal", nodes = "sg-nodes" }
  database_hosts  = ["db1.eu-west-1.internal.clock.example.com:26257", "db1.us-east-1.internal.clock.example.com:26257"]
  key_arn         = "arn:aws:kms:eu-west-1:123456789012:key/mrk-00000000000000000000000000000000"
  artifacts       = "punchclock-artifacts-123456789012-eu-west-1"
  release         = { version = "v1.2.3", sha256 = "2222222222222222222222222222222222222222222222222222222222222222" }
  peaks = [
    { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON", "TUE", "WED", "THU", "FRI"], from = "07:45", to = "10:00", nodes = 6 },
  ]
  tokens = { jwks = "https://id.example.com/jwks.json", issuer = "https://id.example.com/", audience = "punchclock" }
}

# Without this all groups would have the same name.
override_resource {
  target = aws_lb_target_group.seeds
  values = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/seeds/0123456789abcdef" }
}

override_resource {
  target = aws_lb_target_group.operations
  values = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/operations/0123456789abcdef" }
}

run "nodes_over_three_zones" {
  assert {
    condition = (aws_autoscaling_group.node.min_size == 3 && aws_autoscaling_group.node.max_size == 12 &&
    aws_autoscaling_group.node.vpc_zone_identifier == toset(["subnet-a", "subnet-b", "subnet-c"]) && aws_autoscaling_group.node.target_group_arns == toset([aws_lb_target_group.public.arn, aws_lb_target_group.seeds.arn, aws_lb_target_group.operations.arn]))
    error_message = "the group is ${aws_autoscaling_group.node.min_size} to ${aws_autoscaling_group.node.max_size} over ${jsonencode(aws_autoscaling_group.node.vpc_zone_identifier)}"
  }
  assert {
    condition = (aws_autoscaling_group.node.name == "punchclock-eu-west-1-nodes" && aws_autoscaling_group.node.health_check_grace_period == 0 && aws_autoscaling_group.node.wait_for_capacity_timeout == "0" &&
    one(aws_autoscaling_group.node.launch_template).id == aws_launch_template.node.id && one(aws_autoscaling_group.node.launch_template).version == tostring(aws_launch_template.node.latest_version))
    error_message = "a change of the template must be one of the group, or nothing is refreshed: ${jsonencode(aws_autoscaling_group.node.launch_template)}"
  }
  assert {
    condition = (one(aws_launch_template.node.iam_instance_profile).arn == aws_iam_instance_profile.node.arn && aws_iam_instance_profile.node.role == aws_iam_role.node.name &&
    one(aws_launch_template.node.tag_specifications).tags == tomap({ Name = "punchclock-eu-west-1-nodes", "punchclock:deployment" = "punchclock", "punchclock:role" = "node" }))
    error_message = "the collector finds nodes by their tags: ${jsonencode(aws_launch_template.node.tag_specifications)}"
  }
  assert {
    condition     = aws_autoscaling_group.node.health_check_type == "EC2"
    error_message = "a region that is evacuated must not lose its nodes to the balancer's view"
  }
  assert {
    condition     = one(aws_launch_template.node.metadata_options).http_tokens == "required" && one(aws_launch_template.node.metadata_options).http_put_response_hop_limit == 1
    error_message = "a machine's role is for who has a token"
  }
  assert {
    condition     = aws_launch_template.node.vpc_security_group_ids == toset(["sg-nodes"]) && aws_launch_template.node.image_id == "ami-0123456789abcdef0" && one(one(aws_launch_template.node.block_device_mappings).ebs).encrypted == "true"
    error_message = "the machine is ${jsonencode(aws_launch_template.node)}"
  }
}

run "a_refresh_drains" {
  assert {
    condition = (one(aws_autoscaling_group.node.instance_refresh).strategy == "Rolling" &&
      one(one(aws_autoscaling_group.node.instance_refresh).preferences).min_healthy_percentage == 100 && one(one(aws_autoscaling_group.node.instance_refresh).preferences).max_healthy_percentage > 100 &&
    one(one(aws_autoscaling_group.node.instance_refresh).preferences).auto_rollback)
    error_message = "a new one starts before an old one goes: ${jsonencode(aws_autoscaling_group.node.instance_refresh)}"
  }
  assert {
    condition = (one(aws_autoscaling_group.node.initial_lifecycle_hook).lifecycle_transition == "autoscaling:EC2_INSTANCE_LAUNCHING" && one(aws_autoscaling_group.node.initial_lifecycle_hook).default_result == "ABANDON" && one(aws_autoscaling_group.node.initial_lifecycle_hook).heartbeat_timeout == 900 &&
    strcontains(output.user_data, "--lifecycle-hook-name ${one(aws_autoscaling_group.node.initial_lifecycle_hook).name} "))
    error_message = "one that does not start ends the refresh, and the machine names the hook it is held by"
  }
  assert {
    condition = alltrue([for line in [
      "chmod 755 /opt/punchclock/punchclock", "systemctl daemon-reload", "systemctl enable --now --no-block punchclock.service node-secrets.timer", "/usr/local/bin/node-started",
    ] : contains(jsondecode(split("\n", output.user_data)[1]).runcmd, line)])
    error_message = "it runs ${jsonencode(jsondecode(split("\n", output.user_data)[1]).runcmd)}"
  }
  assert {
    condition     = tonumber(aws_lb_target_group.public.deregistration_delay) > tonumber(regex("shutdown-timeout: ([0-9]+)s", output.settings)[0])
    error_message = "the balancer's delay is shorter than a drain"
  }
  assert {
    condition     = tonumber(regex("TimeoutStopSec=([0-9]+)", output.user_data)[0]) > tonumber(regex("shutdown-timeout: ([0-9]+)s", output.settings)[0])
    error_message = "systemd kills a node that still drains"
  }
}

run "another_least_takes_no_node_away_by_day" {
  variables {
    size = { least = 2, most = 12 }
  }
  assert {
    condition     = aws_autoscaling_group.node.min_size == 3 && min([for s in aws_autoscaling_schedule.peak : s.min_size]...) == 2
    error_message = "the clock sets the least, not an apply in the middle of a peak"
  }
}

run "balancer" {
  assert {
    condition = (aws_lb.public.load_balancer_type == "network" && !aws_lb.public.internal && aws_lb.public.enable_cross_zone_load_balancing &&
    aws_lb.public.security_groups == toset(["sg-balancer"]) && length(aws_lb.public.subnet_mapping) == 3)
    error_message = "the balancer is ${jsonencode(aws_lb.public)}"
  }
  assert {
    condition = (aws_lb_listener.public.port == 443 && aws_lb_listener.public.protocol == "TLS" && aws_lb_target_group.public.port == 8080 && aws_lb_target_group.public.protocol == "TLS" &&
    aws_lb_target_group.public.preserve_client_ip == "true" && aws_lb_listener.public.alpn_policy == "HTTP1Only")
    error_message = "TLS to the balancer on 443, TLS behind it on 8080"
  }
  assert {
    condition = alltrue([for listener, group in {
      (one(aws_lb_listener.public.default_action).target_group_arn)     = aws_lb_target_group.public.arn
      (one(aws_lb_listener.seeds.default_action).target_group_arn)      = aws_lb_target_group.seeds.arn
      (one(aws_lb_listener.operations.default_action).target_group_arn) = aws_lb_target_group.operations.arn
    } : listener == group])
    error_message = "a listener leads to another's nodes"
  }
  assert {
    condition = (aws_lb_listener.public.ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06" && aws_lb_listener.public.load_balancer_arn == aws_lb.public.arn &&
      toset([for m in aws_lb.public.subnet_mapping : "${m.subnet_id} ${m.allocation_id}"]) == toset([for zone, subnet in var.public_subnets : "${subnet} ${aws_eip.balancer[zone].id}"]) &&
    aws_lb.internal.security_groups == toset(["sg-internal"]) && toset(aws_lb.internal.subnets) == toset(values(var.private_subnets)))
    error_message = "addresses are fixed, and each balancer has its own group: ${jsonencode(aws_lb.public.subnet_mapping)}"
  }
  assert {
    condition = (one(aws_lb_target_group.public.health_check).path == "/readyz" && one(aws_lb_target_group.public.health_check).protocol == "HTTPS" && one(aws_lb_target_group.public.health_check).port == "traffic-port" &&
    one(aws_lb_target_group.public.health_check).interval * one(aws_lb_target_group.public.health_check).unhealthy_threshold < tonumber(regex("drain-delay: ([0-9]+)s", output.settings)[0]))
    error_message = "the balancer must notice that a node drains while it still answers: ${jsonencode(aws_lb_target_group.public.health_check)}"
  }
  assert {
    condition     = aws_acm_certificate.public.domain_name == "eu-west-1.clock.example.com" && aws_acm_certificate.public.subject_alternative_names == toset(["clock.example.com"]) && aws_route53_record.validation.name == "_1.eu-west-1.clock.example.com"
    error_message = "the certificate is for the regional and the general name; only the regional one is proven here"
  }
  assert {
    condition     = aws_lb.internal.internal && aws_lb_listener.seeds.port == 7946 && aws_lb_target_group.seeds.preserve_client_ip == "false" && aws_route53_record.seeds.name == "seeds.eu-west-1.internal.clock.example.com" && aws_route53_record.seeds.zone_id == "Z0INTERNAL"
    error_message = "seeds are found by one name inside"
  }
  assert {
    condition = (aws_lb_listener.operations.port == 9090 && aws_lb_target_group.operations.port == 9090 && aws_lb_target_group.operations.preserve_client_ip == "false" &&
    aws_route53_record.operations.name == "ops.eu-west-1.internal.clock.example.com" && strcontains(output.settings, "ops-addr: 0.0.0.0:9090\n"))
    error_message = "the console finds a node by one name inside"
  }
  assert {
    condition     = keys(output.addresses) == ["eu-west-1a", "eu-west-1b", "eu-west-1c"] && output.url == "https://eu-west-1.clock.example.com"
    error_message = "addresses are ${jsonencode(output.addresses)}"
  }
}

run "names_of_the_longest_region_and_deployment_fit" {
  command = plan
  variables {
    deployment = "punchclock"
    name       = "ap-southeast-1"
  }
  assert {
    condition     = alltrue([for name in [aws_lb.public.name, aws_lb.internal.name, aws_lb_target_group.public.name, aws_lb_target_group.seeds.name, aws_lb_target_group.operations.name] : length(name) <= 32])
    error_message = "AWS takes 32 characters for ${jsonencode([aws_lb.public.name, aws_lb.internal.name, aws_lb_target_group.public.name, aws_lb_target_group.seeds.name, aws_lb_target_group.operations.name])}"
  }
}

run "a_peak_raises_and_gives_back" {
  assert {
    condition = toset([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"]) == toset([
      "45 7 * * MON,TUE,WED,THU,FRI Europe/Berlin 6", "0 10 * * MON,TUE,WED,THU,FRI Europe/Berlin 3",
    ])
    error_message = "the actions are ${jsonencode([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"])}"
  }
  assert {
    condition     = alltrue([for s in aws_autoscaling_schedule.peak : s.desired_capacity == -1 && s.max_size == 12 && s.autoscaling_group_name == aws_autoscaling_group.node.name])
    error_message = "the clock sets what there is at least; a desired capacity would take nodes away in the middle of a rush"
  }
  assert {
    condition     = one(one(aws_autoscaling_policy.load.target_tracking_configuration).predefined_metric_specification).predefined_metric_type == "ASGAverageCPUUtilization" && one(aws_autoscaling_policy.load.target_tracking_configuration).target_value == 50
    error_message = "what nobody foresaw is followed by load"
  }
}

run "several_peaks_a_day_and_one_over_midnight" {
  variables {
    peaks = [
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON", "FRI"], from = "07:45", to = "10:00", nodes = 6 },
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON"], from = "16:30", to = "18:00", nodes = 4 },
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["SUN"], from = "21:30", to = "00:15", nodes = 5 },
    ]
  }
  assert {
    condition = toset([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"]) == toset([
      "45 7 * * MON,FRI Europe/Berlin 6", "0 10 * * MON,FRI Europe/Berlin 3", "30 16 * * MON Europe/Berlin 4", "0 18 * * MON Europe/Berlin 3",
      "30 21 * * SUN Europe/Berlin 5", "15 0 * * MON Europe/Berlin 3",
    ])
    error_message = "the actions are ${jsonencode([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"])}"
  }
}

# The smaller peak begins inside the greater one. Its beginning takes nothing away, and the end of the greater one
# leaves what the smaller one needs.
run "overlapping_peaks" {
  variables {
    peaks = [
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["TUE"], from = "07:45", to = "10:00", nodes = 8 },
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["TUE"], from = "09:00", to = "11:00", nodes = 4 },
    ]
  }
  assert {
    condition = toset([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.min_size}"]) == toset([
      "45 7 * * TUE 8", "0 9 * * TUE 8", "0 10 * * TUE 4", "0 11 * * TUE 3",
    ])
    error_message = "the actions are ${jsonencode([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.min_size}"])}"
  }
}

run "two_peaks_that_begin_together" {
  variables {
    peaks = [
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["TUE"], from = "07:45", to = "10:00", nodes = 8 },
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["TUE", "WED"], from = "07:45", to = "10:00", nodes = 4 },
    ]
  }
  assert {
    condition = toset([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.min_size}"]) == toset([
      "45 7 * * TUE 8", "45 7 * * WED 4", "0 10 * * TUE,WED 3",
    ])
    error_message = "AWS refuses two actions at one moment, and the greater peak counts: ${jsonencode([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.min_size}"])}"
  }
}

# Berlin is through when London is in the middle of its rush, in winter and in summer. No two actions come at one moment.
run "a_later_zone_keeps_an_earlier_zones_capacity" {
  variables {
    peaks = [
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON"], from = "07:45", to = "10:00", nodes = 8 },
      { zone = "Europe/London", utc_offsets = [0, 60], days = ["MON"], from = "07:45", to = "10:00", nodes = 4 },
    ]
  }
  assert {
    condition = toset([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"]) == toset([
      "45 7 * * MON Europe/Berlin 8", "44 7 * * MON Europe/London 8", "0 10 * * MON Europe/Berlin 4", "1 10 * * MON Europe/London 3", "15 12 * * MON Europe/Berlin 3",
    ])
    error_message = "the actions are ${jsonencode([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"])}"
  }
}

run "what_a_node_is_started_with" {
  assert {
    condition = alltrue([for line in [
      "region: eu-west-1\n", "public-url: https://eu-west-1.clock.example.com\n", "deployment: punchclock\n", "token-jwks: https://id.example.com/jwks.json\ntoken-issuer: https://id.example.com/\ntoken-audience: punchclock\n", "  - seeds.us-east-1.internal.clock.example.com:7946\n",
      "database-url: postgres://punchclock_node@db1.eu-west-1.internal.clock.example.com:26257,db1.us-east-1.internal.clock.example.com:26257/clock?sslmode=verify-full&",
    ] : strcontains(output.settings, line)])
    error_message = "the settings are ${output.settings}"
  }
  assert {
    condition = alltrue([for f in jsondecode(split("\n", output.user_data)[1]).write_files : alltrue([for line in [
      "User=punchclock", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "LimitNOFILE=262144", "Restart=always", "MemoryDenyWriteExecute=yes",
      "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.eu-west-1.internal.clock.example.com:4318", "ExecStart=/opt/punchclock/punchclock node --settings=/etc/punchclock/node.yaml",
    ] : strcontains(f.content, line)]) if f.path == "/etc/systemd/system/punchclock.service"])
    error_message = "the unit is ${jsonencode([for f in jsondecode(split("\n", output.user_data)[1]).write_files : f.content if f.path == "/etc/systemd/system/punchclock.service"])}"
  }
  assert {
    condition     = strcontains(output.user_data, "punchclock/v1.2.3/punchclock-linux-arm64' '2222222222222222222222222222222222222222222222222222222222222222'")
    error_message = "punchclock comes by its checksum"
  }
  assert {
    condition     = length(aws_launch_template.node.user_data) < 16384 * 4 / 3
    error_message = "EC2 takes 16 KB of user data, these are ${length(aws_launch_template.node.user_data)} characters of base64"
  }
}

run "least_privilege" {
  assert {
    condition = { for s in jsondecode(aws_iam_role_policy.node.policy).Statement : s.Sid => s.Action } == {
      Artifact = ["s3:GetObject"]
      Secrets  = ["secretsmanager:GetSecretValue"]
      Key      = ["kms:Decrypt"]
      Started  = ["autoscaling:CompleteLifecycleAction"]
    } && aws_iam_role_policy.node.role == aws_iam_role.node.id && aws_iam_role_policy_attachment.ssm.policy_arn == "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    error_message = "a node may do what its scripts do: ${aws_iam_role_policy.node.policy}"
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_role_policy.node.policy).Statement : s.Resource == {
      Artifact = ["arn:aws:s3:::punchclock-artifacts-123456789012-eu-west-1/punchclock/*"]
      Key      = [var.key_arn]
      Started  = ["arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:*:autoScalingGroupName/${aws_autoscaling_group.node.name}"]
    }[s.Sid] if s.Sid != "Secrets"])
    error_message = "on what is its own: ${aws_iam_role_policy.node.policy}"
  }
  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.node.policy).Statement : alltrue([for r in s.Resource : r != "*"]) && alltrue([for a in s.Action : !strcontains(a, "*")])])
    error_message = "nothing is allowed on everything: ${aws_iam_role_policy.node.policy}"
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.node.policy).Statement : s.Resource if s.Sid == "Secrets"] == [[for s in ["eu-west-1/node", "gossip", "database/node"] : "arn:aws:secretsmanager:eu-west-1:123456789012:secret:punchclock/${s}-??????"]]
    error_message = "a node reads its own secrets and no operator's: ${aws_iam_role_policy.node.policy}"
  }
}

run "keys_fetched_over_http" {
  command = plan
  variables {
    tokens = { jwks = "http://id.example.com/jwks.json", issuer = "i", audience = "a" }
  }
  expect_failures = [var.tokens]
}

# In some weeks of the year one zone has changed its clock and the other has not. Nothing is taken back while the other
# peak may still run, and all is given back two and a quarter hours after the end.
run "clocks_that_change_on_different_days" {
  variables {
    peaks = [
      { zone = "America/New_York", utc_offsets = [-300, -240], days = ["MON"], from = "05:00", to = "06:30", nodes = 8 },
      { zone = "Europe/London", utc_offsets = [0, 60], days = ["MON"], from = "09:00", to = "11:00", nodes = 4 },
    ]
  }
  assert {
    condition = toset([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"]) == toset([
      "0 5 * * MON America/New_York 8", "59 8 * * MON Europe/London 4", "1 11 * * MON Europe/London 8", "16 13 * * MON Europe/London 3",
      "30 6 * * MON America/New_York 4", "45 8 * * MON America/New_York 3",
    ])
    error_message = "the actions are ${jsonencode([for s in aws_autoscaling_schedule.peak : "${s.recurrence} ${s.time_zone} ${s.min_size}"])}"
  }
}

run "fewer_at_most_than_at_least" {
  command = plan
  variables {
    size  = { least = 6, most = 3 }
    peaks = []
  }
  expect_failures = [var.size]
}

run "a_time_zone_that_is_an_offset" {
  command = plan
  variables {
    peaks = [{ zone = "+02:00", utc_offsets = [120], days = ["MON"], from = "07:45", to = "10:00", nodes = 6 }]
  }
  expect_failures = [var.peaks]
}

run "a_day_that_is_none" {
  command = plan
  variables {
    peaks = [{ zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON", "MONTAG"], from = "07:45", to = "10:00", nodes = 6 }]
  }
  expect_failures = [var.peaks]
}

run "a_peak_without_days" {
  command = plan
  variables {
    peaks = [{ zone = "Europe/Berlin", utc_offsets = [60, 120], days = [], from = "07:45", to = "10:00", nodes = 6 }]
  }
  expect_failures = [var.peaks]
}

run "a_time_that_is_none" {
  command = plan
  variables {
    peaks = [{ zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON"], from = "7:45", to = "10:00", nodes = 6 }]
  }
  expect_failures = [var.peaks]
}

run "a_zone_with_hours_for_minutes" {
  command = plan
  variables {
    peaks = [{ zone = "Europe/Berlin", utc_offsets = [3600], days = ["MON"], from = "07:45", to = "10:00", nodes = 6 }]
  }
  expect_failures = [var.peaks]
}

run "a_zone_with_two_opinions_about_its_offset" {
  command = plan
  variables {
    peaks = [
      { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON"], from = "07:45", to = "10:00", nodes = 6 },
      { zone = "Europe/Berlin", utc_offsets = [60], days = ["TUE"], from = "07:45", to = "10:00", nodes = 6 },
    ]
  }
  expect_failures = [var.peaks]
}

run "a_peak_that_needs_more_than_there_may_be" {
  command = plan
  variables {
    peaks = [{ zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON"], from = "07:45", to = "10:00", nodes = 13 }]
  }
  expect_failures = [var.peaks]
}

run "more_actions_than_a_group_takes" {
  command = plan
  variables {
    peaks = [for i in range(64) : { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON"], from = format("%02d:%02d", floor(i / 3), i % 3 * 20), to = format("%02d:%02d", floor(i / 3), i % 3 * 20 + 10), nodes = 6 }]
  }
  expect_failures = [aws_autoscaling_group.node]
}
