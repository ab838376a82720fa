# A region as a whole: the parts fit, in the order in which they need each other.

mock_provider "aws" {
  source = "../../testing"
}

variables {
  name = "eu-west-1"
  peaks = [
    { zone = "Europe/Berlin", utc_offsets = [60, 120], days = ["MON"], from = "07:45", to = "10:00", nodes = 6 },
  ]
  deployment = {
    name         = "punchclock"
    domain       = "clock.example.com"
    network      = "10.64.0.0/12"
    state        = { bucket = "example-punchclock-terraform", region = "us-east-1" }
    regions      = [{ name = "us-east-1", cidr = "10.64.0.0/16" }, { name = "eu-west-1", cidr = "10.65.0.0/16" }, { name = "ap-south-1", cidr = "10.66.0.0/16" }]
    tokens       = { jwks = "https://id.example.com/jwks.json", issuer = "https://id.example.com/", audience = "punchclock" }
    organisation = "Example"
    subscribers  = { page = ["oncall@example.com"] }
    release = {
      punchclock = { version = "v1.2.3", sha256 = "2222222222222222222222222222222222222222222222222222222222222222" }
      cockroach  = { version = "v26.1.0", sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }
      collector  = { version = "v0.158.0", sha256 = "3333333333333333333333333333333333333333333333333333333333333333" }
    }
  }
  destroy_check = "true" # tests tear down what they made; see guard.tftest.hcl
}

override_data {
  target = data.terraform_remote_state.global
  values = {
    outputs = {
      global = {
        zone_id       = "Z0PUBLIC"
        internal_zone = { name = "internal.clock.example.com", id = "Z0INTERNAL" }
        keys          = { us-east-1 = "arn:aws:kms:us-east-1:123456789012:key/mrk-00000000000000000000000000000000", eu-west-1 = "arn:aws:kms:eu-west-1:123456789012:key/mrk-00000000000000000000000000000000" }
        artifacts     = { us-east-1 = "punchclock-artifacts-123456789012-us-east-1", eu-west-1 = "punchclock-artifacts-123456789012-eu-west-1" }
        backups       = { us-east-1 = "punchclock-backup-123456789012-us-east-1", eu-west-1 = "punchclock-backup-123456789012-eu-west-1", ap-south-1 = "punchclock-backup-123456789012-ap-south-1" }
        topics        = { page = "arn:aws:sns:us-east-1:123456789012:page", ticket = "arn:aws:sns:us-east-1:123456789012:ticket" }
      }
    }
  }
}

override_data {
  target = module.network.data.aws_vpcs.peer
  values = { ids = ["vpc-0000000000000000a"] }
}

run "the_parts_fit" {
  assert {
    condition     = output.url == "https://eu-west-1.clock.example.com" && output.names == ["eu-west-1.clock.example.com", "clock.example.com"]
    error_message = "names are ${jsonencode(output.names)}"
  }
  assert {
    condition     = keys(output.database) == ["db1", "db2", "db3"] && [for s in values(output.database) : s.zone] == ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
    error_message = "the database's servers are ${jsonencode(output.database)}"
  }
  assert {
    condition     = strcontains(module.nodes.settings, "@db1.eu-west-1.internal.clock.example.com:26257,db2.eu-west-1.internal.clock.example.com:26257,db3.eu-west-1.internal.clock.example.com:26257,db1.us-east-1.internal.clock.example.com:26257,")
    error_message = "nodes try the database of their own region first: ${module.nodes.settings}"
  }
  assert {
    condition     = toset(keys(module.network.security_groups)) == toset(["balancer", "internal", "nodes", "database", "collector"])
    error_message = "groups are ${jsonencode(module.network.security_groups)}"
  }
  assert {
    condition     = strcontains(module.cockroachdb.setup, "punchclock region add 'eu-west-1'")
    error_message = "only the first region sets the cluster up"
  }
  assert {
    condition     = strcontains(output.console, "--region eu-west-1 --target ")
    error_message = "the operator's way in is ${output.console}"
  }
  # Every port with a listener is open, and no other.
  assert {
    condition     = toset(flatten(regexall("-addr: 0[.]0[.]0[.]0:([0-9]+)", module.nodes.settings))) == toset([for o in values(module.network.open) : tostring(o.port) if o.to == "nodes"])
    error_message = "nodes listen as ${module.nodes.settings}, open are ${jsonencode(module.network.open)}"
  }
  assert {
    condition     = alltrue([for data in values(module.cockroachdb.user_data) : toset(flatten(regexall("--(?:listen|http)-addr=:([0-9]+)", data))) == toset([for o in values(module.network.open) : tostring(o.port) if o.to == "database"])])
    error_message = "the database listens elsewhere than ${jsonencode([for o in values(module.network.open) : o if o.to == "database"])}"
  }
  assert {
    condition     = toset(flatten(regexall("PUNCHCLOCK_COLLECTOR_[A-Z]+=0[.]0[.]0[.]0:([0-9]+)", module.observability.user_data))) == toset([for o in values(module.network.open) : tostring(o.port) if o.to == "collector"])
    error_message = "the collector listens elsewhere than ${jsonencode([for o in values(module.network.open) : o if o.to == "collector"])}"
  }
  assert {
    condition     = strcontains(module.cockroachdb.user_data["db1"], "PUNCHCLOCK_OPS_URL=https://ops.eu-west-1.internal.clock.example.com:9090 ")
    error_message = "the console asks nodes where the internal balancer listens"
  }
}

run "a_region_that_is_tried_out" {
  command = plan
  variables { general = false }
  assert {
    condition     = output.names == ["eu-west-1.clock.example.com"]
    error_message = "names are ${jsonencode(output.names)}"
  }
}

run "only_earlier_regions_are_peers" {
  command = plan
  variables { name = "us-east-1" }
  assert {
    condition     = strcontains(module.network.zones[0], "eu-west-1a") # mocked: the same everywhere
    error_message = "zones are ${jsonencode(module.network.zones)}"
  }
  assert {
    condition     = module.network.peered == []
    error_message = "the first region makes no connection, it made ${jsonencode(module.network.peered)}"
  }
}

run "the_second_region_connects_to_the_first" {
  command = plan
  assert {
    condition     = module.network.peered == ["us-east-1"]
    error_message = "connected are ${jsonencode(module.network.peered)}"
  }
}

run "a_region_that_leaves_is_let_go" {
  command = plan
  variables {
    deployment = {
      name         = "punchclock"
      domain       = "clock.example.com"
      network      = "10.64.0.0/12"
      state        = { bucket = "example-punchclock-terraform", region = "us-east-1" }
      regions      = [{ name = "us-east-1", cidr = "10.64.0.0/16" }, { name = "ap-south-1", cidr = "10.66.0.0/16", leaving = true }, { name = "eu-west-1", cidr = "10.65.0.0/16" }]
      tokens       = { jwks = "https://id.example.com/jwks.json", issuer = "https://id.example.com/", audience = "punchclock" }
      organisation = "Example"
      release = {
        punchclock = { version = "v1.2.3", sha256 = "2222222222222222222222222222222222222222222222222222222222222222" }
        cockroach  = { version = "v26.1.0", sha256 = "1111111111111111111111111111111111111111111111111111111111111111" }
        collector  = { version = "v0.158.0", sha256 = "3333333333333333333333333333333333333333333333333333333333333333" }
      }
    }
  }
  assert {
    condition     = module.network.peered == ["us-east-1"]
    error_message = "connected are ${jsonencode(module.network.peered)}"
  }
}

run "a_region_that_is_not_listed" {
  command = plan
  variables { name = "sa-east-1" }
  expect_failures = [var.name]
}
