mock_provider "aws" {
  source = "../../testing"
}

variables {
  deployment     = "punchclock"
  name           = "us-east-1"
  regions        = ["us-east-1", "eu-west-1", "ap-south-1", "eu-central-1"]
  staying        = ["us-east-1", "eu-west-1", "ap-south-1", "eu-central-1"]
  zones          = ["us-east-1a", "us-east-1b", "us-east-1c"]
  subnets        = { us-east-1a = "subnet-a", us-east-1b = "subnet-b", us-east-1c = "subnet-c" }
  security_group = "sg-database"
  key_arn        = "arn:aws:kms:us-east-1:123456789012:key/mrk-00000000000000000000000000000000"
  internal_zone  = { name = "internal.clock.example.com", id = "Z0INTERNAL" }
  artifacts      = "punchclock-artifacts-123456789012-us-east-1"
  backups = {
    us-east-1    = "punchclock-backup-123456789012-us-east-1", eu-west-1 = "punchclock-backup-123456789012-eu-west-1"
    ap-south-1   = "punchclock-backup-123456789012-ap-south-1"
    eu-central-1 = "punchclock-backup-123456789012-eu-central-1"
  }
  release = {
    cockroach  = { version = "v26.1.0", sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }
    punchclock = { version = "v1.2.3", sha256 = "2222222222222222222222222222222222222222222222222222222222222222" }
  }
}

run "a_server_is_a_disk_an_address_and_a_name" {
  assert {
    condition     = keys(output.servers) == ["db1", "db2", "db3"] && tolist([for s in values(output.servers) : s.zone]) == var.zones
    error_message = "servers are ${jsonencode(output.servers)}"
  }
  assert {
    condition = alltrue([for name, v in aws_ebs_volume.data :
      v.type == "gp3" && v.encrypted && v.kms_key_id == var.key_arn && v.final_snapshot && v.size == 200 && v.availability_zone == output.servers[name].zone
    ])
    error_message = "disks are encrypted by our key, and leave a snapshot: ${jsonencode(aws_ebs_volume.data)}"
  }
  assert {
    condition     = alltrue([for name, r in aws_route53_record.server : r.name == "${name}.us-east-1.internal.clock.example.com" && r.records == toset(["10.65.16.10"]) && r.ttl == 60])
    error_message = "names are ${jsonencode([for r in aws_route53_record.server : r.name])}"
  }
  assert {
    condition     = alltrue([for name, i in aws_instance.server : one(i.primary_network_interface).network_interface_id == aws_network_interface.server[name].id && one(i.metadata_options).http_tokens == "required" && one(i.metadata_options).http_put_response_hop_limit == 1 && i.iam_instance_profile == aws_iam_instance_profile.server.name && one(i.root_block_device).encrypted])
    error_message = "a machine takes the server's address, and gives its role to nobody who has no token"
  }
  assert {
    condition     = alltrue([for name, a in aws_volume_attachment.data : a.stop_instance_before_detaching && a.volume_id == aws_ebs_volume.data[name].id && a.instance_id == aws_instance.server[name].id])
    error_message = "a disk is its server's, and is taken from a machine that has stopped"
  }
  assert {
    condition     = alltrue([for name, n in aws_network_interface.server : n.subnet_id == var.subnets[output.servers[name].zone] && n.security_groups == toset(["sg-database"])])
    error_message = "addresses are ${jsonencode(aws_network_interface.server)}"
  }
}

run "what_a_server_is_started_with" {
  assert {
    condition = alltrue([for flag in [
      "--cluster-name=punchclock", "--locality=region=us-east-1,zone=us-east-1b", "--advertise-addr=db2.us-east-1.internal.clock.example.com:26257",
      "ExecStartPre=+/usr/local/bin/prepare-disk\nExecStartPre=+/usr/local/bin/database-secrets\n", "--certs-dir=/run/cockroach/certs", "--store=path=/var/lib/cockroach",
      "--join=db1.us-east-1.internal.clock.example.com:26257,db2.us-east-1.internal.clock.example.com:26257,db3.us-east-1.internal.clock.example.com:26257,db1.eu-west-1.internal.clock.example.com:26257",
      "--listen-addr=:26257", "--http-addr=:8080", "TimeoutStopSec=300\n", "TimeoutStartSec=infinity\n", "RequiresMountsFor=/var/lib/cockroach\n", "Restart=always", "Type=notify", "LimitNOFILE=65536", "ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n",
    ] : strcontains([for f in jsondecode(split("\n", output.user_data["db2"])[1]).write_files : f.content if f.path == "/etc/systemd/system/cockroach.service"][0], flag)])
    error_message = "the unit is ${[for f in jsondecode(split("\n", output.user_data["db2"])[1]).write_files : f.content if f.path == "/etc/systemd/system/cockroach.service"][0]}"
  }
  assert {
    condition = strcontains([for f in jsondecode(split("\n", output.user_data["db1"])[1]).write_files : f.content if f.path == "/usr/local/bin/database-secrets"][0],
    "/run/cockroach/certs cockroach punchclock/us-east-1/database punchclock/database/operator")
    error_message = "a server takes the certificates of its region and of the operator"
  }
  assert {
    condition = alltrue([for path, text in {
      "/usr/local/bin/database-secrets" = "kill --signal=HUP --kill-whom=main cockroach", "/etc/systemd/system/database-secrets.timer" = "OnCalendar=*:0/5\nRandomizedDelaySec=60\n\n[Install]\nWantedBy=timers.target\n"
    } : strcontains([for f in jsondecode(split("\n", output.user_data["db1"])[1]).write_files : f.content if f.path == path][0], text)])
    error_message = "new certificates are read without a restart, every few minutes"
  }
  assert {
    condition     = strcontains([for f in jsondecode(split("\n", output.user_data["db1"])[1]).write_files : f.content if f.path == "/usr/local/bin/prepare-disk"][0], "Amazon_Elastic_Block_Store_vol0123456789abcdef0")
    error_message = "the disk is found by its id"
  }
  assert {
    condition     = strcontains(jsonencode(jsondecode(split("\n", output.user_data["db1"])[1]).runcmd), "cockroach/v26.1.0/cockroach-linux-arm64' '1111111111111111111111111111111111111111111111111111111111111111'")
    error_message = "cockroach comes by its checksum"
  }
  assert {
    condition = alltrue([for line in [
      "chmod 755 /opt/cockroach/cockroach /usr/local/bin/punchclock", "systemctl daemon-reload", "systemctl enable --now --no-block cockroach.service database-secrets.timer",
    ] : contains(jsondecode(split("\n", output.user_data["db1"])[1]).runcmd, line)])
    error_message = "it runs ${jsonencode(jsondecode(split("\n", output.user_data["db1"])[1]).runcmd)}"
  }
}

run "a_newer_image_or_another_type_touches_no_server" {
  variables { instance_type = "m7g.2xlarge" }
  override_data {
    target = data.aws_ssm_parameter.image
    values = { insecure_value = "ami-00000000000000000" }
  }
  assert {
    condition     = alltrue([for i in aws_instance.server : i.ami == "ami-0123456789abcdef0" && i.instance_type == "m7g.xlarge"])
    error_message = "all servers of a region would be stopped at once"
  }
}

run "the_first_region_sets_the_cluster_up" {
  assert {
    condition     = aws_ssm_association.setup.schedule_expression == "rate(1 day)" && one(aws_ssm_association.setup.targets).key == "InstanceIds" && one(aws_ssm_association.setup.targets).values == tolist([aws_instance.server["db1"].id]) && aws_ssm_association.setup.document_version == aws_ssm_document.setup.latest_version && aws_ssm_association.setup.wait_for_success_timeout_seconds == 1800
    error_message = "the setup runs on one machine, at each change and daily, and the apply waits for it"
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_ssm_document.setup.content).mainSteps : s.inputs.timeoutSeconds == "1800" && s.inputs.runCommand == [
      "cat >/run/punchclock-setup.sh <<'END-OF-SETUP'\n${output.setup}\nEND-OF-SETUP", "bash /run/punchclock-setup.sh"
    ]])
    error_message = "what runs is not the setup: ${aws_ssm_document.setup.content}"
  }
  assert {
    condition = alltrue([for part in [
      "aws ssm put-parameter --name '/punchclock/cockroach/initialised-by' --type String --value 'vol-0123456789abcdef0'", "cockroach init --cluster-name='punchclock'",
      "CREATE DATABASE IF NOT EXISTS clock;", "SET CLUSTER SETTING kv.transaction.write_buffering.enabled = false;", "RECURRING '*/10 * * * *' FULL BACKUP '@daily'", "--regions='us-east-1'",
      "ALTER RANGE meta CONFIGURE ZONE USING num_replicas = 5, constraints = '{\"+region=ap-south-1\":1,\"+region=eu-west-1\":1,\"+region=us-east-1\":1}';",
      "ALTER RANGE liveness", "ALTER RANGE system", "ALTER DATABASE system", "ALTER RANGE timeseries CONFIGURE ZONE USING num_replicas = 3",
      "'s3://punchclock-backup-123456789012-us-east-1/clock?AUTH=implicit&AWS_REGION=us-east-1&COCKROACH_LOCALITY=default', 's3://punchclock-backup-123456789012-eu-west-1/clock?AUTH=implicit&AWS_REGION=eu-west-1&COCKROACH_LOCALITY=region%3Deu-west-1'",
    ] : strcontains(output.setup, part)])
    error_message = "the setup is ${output.setup}"
  }
  assert {
    condition     = !strcontains(output.setup, "enterprise.license")
    error_message = "there is no licence to set"
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.server.policy).Statement : s.Resource if s.Sid == "Initialise"] == [["arn:aws:ssm:us-east-1:123456789012:parameter/punchclock/cockroach/initialised-by"]]
    error_message = "it may claim the initialisation: ${aws_iam_role_policy.server.policy}"
  }
}

run "a_region_that_leaves_holds_no_system_range" {
  variables { staying = ["us-east-1", "ap-south-1", "eu-central-1"] }
  assert {
    condition     = strcontains(output.setup, "ALTER RANGE meta CONFIGURE ZONE USING num_replicas = 5, constraints = '{\"+region=ap-south-1\":1,\"+region=eu-central-1\":1,\"+region=us-east-1\":1}';") && strcontains(output.setup, "for region in us-east-1 ap-south-1 eu-central-1; do")
    error_message = "the setup is ${output.setup}"
  }
}

run "the_primary_region_cannot_leave" {
  command = plan
  variables { staying = ["eu-west-1", "ap-south-1", "eu-central-1"] }
  expect_failures = [var.staying]
}

run "with_a_licence" {
  variables { licence = 2 }
  assert {
    condition     = strcontains(output.setup, "--secret-id 'punchclock/database/licence'") && strcontains(output.setup, "SET CLUSTER SETTING enterprise.license") && strcontains(output.setup, "\n# Licence 2:")
    error_message = "the licence is set from its secret"
  }
  assert {
    condition     = output.setup_association != run.the_first_region_sets_the_cluster_up.setup_association
    error_message = "the apply waits only for an association that it makes: another setup needs another one"
  }
}

run "another_region_joins_and_never_initialises" {
  variables {
    name    = "eu-west-1"
    zones   = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
    subnets = { eu-west-1a = "subnet-a", eu-west-1b = "subnet-b", eu-west-1c = "subnet-c" }
    key_arn = "arn:aws:kms:eu-west-1:123456789012:key/mrk-00000000000000000000000000000000"
    servers = 6
  }
  assert {
    condition     = strcontains(output.setup, "punchclock region add 'eu-west-1'") && !strcontains(output.setup, "cockroach init") && aws_ssm_association.setup.schedule_expression == null
    error_message = "it gives the database its region, once: ${output.setup}"
  }
  assert {
    condition     = length([for s in jsondecode(aws_iam_role_policy.server.policy).Statement : s if s.Sid == "Initialise"]) == 0
    error_message = "it may not claim the initialisation"
  }
  assert {
    condition     = slice(output.hosts, 0, 7) == [for i in range(7) : i < 6 ? "db${i + 1}.eu-west-1.internal.clock.example.com:26257" : "db1.us-east-1.internal.clock.example.com:26257"] && length(output.hosts) == 15
    error_message = "its own servers come first: ${jsonencode(output.hosts)}"
  }
  assert {
    condition     = [for s in values(output.servers) : s.zone] == ["eu-west-1a", "eu-west-1b", "eu-west-1c", "eu-west-1a", "eu-west-1b", "eu-west-1c"]
    error_message = "servers go over the zones in turn"
  }
}

run "least_privilege" {
  assert {
    condition = { for s in jsondecode(aws_iam_role_policy.server.policy).Statement : s.Sid => s.Action } == {
      Artifacts  = ["s3:GetObject"]
      Secrets    = ["secretsmanager:GetSecretValue"]
      BackupList = ["s3:ListBucket"]
      Backup     = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
      Key        = ["kms:Decrypt", "kms:GenerateDataKey"]
      Initialise = ["ssm:PutParameter", "ssm:GetParameter"]
    } && aws_iam_role_policy.server.role == aws_iam_role.server.id && aws_iam_role_policy_attachment.ssm.policy_arn == "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    error_message = "a server may do what its scripts do: ${aws_iam_role_policy.server.policy}"
  }
  assert {
    condition = alltrue([for s in jsondecode(aws_iam_role_policy.server.policy).Statement : s.Resource == {
      Artifacts  = ["arn:aws:s3:::punchclock-artifacts-123456789012-us-east-1/cockroach/*", "arn:aws:s3:::punchclock-artifacts-123456789012-us-east-1/punchclock/*"]
      BackupList = [for b in values(var.backups) : "arn:aws:s3:::${b}"]
      Backup     = [for b in values(var.backups) : "arn:aws:s3:::${b}/*"]
      Key        = ["arn:aws:kms:*:123456789012:key/mrk-00000000000000000000000000000000"]
    }[s.Sid] if contains(["Artifacts", "BackupList", "Backup", "Key"], s.Sid)])
    error_message = "on what is its own, backups in every region: ${aws_iam_role_policy.server.policy}"
  }
  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.server.policy).Statement : alltrue([for r in s.Resource : r != "*"]) && alltrue([for a in s.Action : !strcontains(a, "*")])])
    error_message = "nothing is allowed on everything: ${aws_iam_role_policy.server.policy}"
  }
  assert {
    condition     = [for s in jsondecode(aws_iam_role_policy.server.policy).Statement : s.Resource if s.Sid == "Secrets"] == [[for s in ["us-east-1/database", "database/operator", "database/licence", "authorities"] : "arn:aws:secretsmanager:us-east-1:123456789012:secret:punchclock/${s}-??????"]]
    error_message = "it reads the secrets of its region and no other: ${aws_iam_role_policy.server.policy}"
  }
}

run "servers_that_do_not_fill_the_zones" {
  command = plan
  variables { servers = 4 }
  expect_failures = [var.servers]
}

run "a_machine_that_cannot_run_it" {
  command = plan
  variables { instance_type = "m7i.xlarge" }
  expect_failures = [var.instance_type]
}

run "a_disk_that_cannot_be_had" {
  command = plan
  variables {
    disk = { size = 200, iops = 20000, throughput = 125 }
  }
  expect_failures = [var.disk]
}

run "a_checksum_that_is_none" {
  command = plan
  variables {
    release = {
      cockroach  = { version = "v26.1.0", sha256 = "latest" }
      punchclock = { version = "v1.2.3", sha256 = "2222222222222222222222222222222222222222222222222222222222222222" }
    }
  }
  expect_failures = [var.release]
}
