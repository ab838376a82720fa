# Plans against the file of a cluster that does not run: no process starts. Run it by TF_WORKSPACE=eu-west terraform test.
# The tests of node/lab/drill start, replace and drain real nodes.

variables {
  region  = "eu-west"
  cluster = "tests/cluster.json"
  binary  = "tests/cluster.json" # some file
}

run "a_region" {
  command = plan
  assert {
    condition     = keys(output.nodes) == ["eu-west-n1", "eu-west-n2"]
    error_message = "The outputs name other nodes than the region's two."
  }
  assert {
    condition     = terraform_data.group.input.region == "eu-west" && terraform_data.group.input.dir == "/nowhere/punchclock-1"
    error_message = "What a destroy will need is not kept in the state."
  }
}

run "nodes_alone" {
  command = plan
  assert {
    condition     = length(terraform_data.database) == 0 && length(module.guard) == 0
    error_message = "A destroy of the nodes would touch the database, or be refused."
  }
}

run "with_its_part_of_the_database" {
  command = plan
  variables {
    with_database = true
  }
  assert {
    condition     = terraform_data.database[0].input.dir == "/nowhere/punchclock-1" && length(terraform_data.joined) == 1 && length(module.guard) == 1
    error_message = "A whole region has a server, a region of the database, and a guard."
  }
}

run "another_region" {
  command = plan
  variables {
    cluster = "tests/other.json"
  }
  expect_failures = [terraform_data.group]
}

run "fewer_nodes" {
  command = plan
  variables {
    nodes = 1
  }
  assert {
    condition     = keys(output.nodes) == ["eu-west-n1"]
    error_message = "One node was asked for."
  }
}

run "the_workspace_is_the_region" {
  command = plan
  variables {
    region = "us-east"
  }
  expect_failures = [var.region]
}

run "more_nodes_than_addresses" {
  command = plan
  variables {
    nodes = 3
  }
  expect_failures = [terraform_data.nodes]
}

run "no_node_at_all" {
  command = plan
  variables {
    nodes = 0
  }
  expect_failures = [var.nodes]
}

run "no_cluster" {
  command = plan
  variables {
    cluster = "tests/no-such-file.json"
  }
  expect_failures = [terraform_data.group]
}

run "no_binary" {
  command = plan
  variables {
    binary = "tests/no-such-file"
  }
  expect_failures = [terraform_data.nodes]
}
