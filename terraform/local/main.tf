# One region's nodes on this machine, as terraform/modules/nodes is one region's
# nodes on AWS: a group that stays while its nodes are replaced, and takes them
# with it when it goes. The whole region, with its part of the database, is in
# database.tf.

locals {
  # Either file may be gone when the region is destroyed, which needs neither.
  nothing = jsonencode({ pid = 0, dir = "", regions = [], nodes = [], database = { url = "" } })
  cluster = jsondecode(fileexists(var.cluster) ? file(var.cluster) : local.nothing)
  binary  = fileexists(var.binary) ? filesha256(var.binary) : ""
  # How often a node of the region ended by itself. An apply does not reset it.
  crashes = sum(concat([0], [for n in local.cluster.nodes : n.crashes if n.region == var.region]))

  # Read once the region is in it, which may be during the apply.
  joined  = var.with_database ? jsondecode(fileexists(one(terraform_data.joined).output) ? file(one(terraform_data.joined).output) : local.nothing) : local.cluster
  planned = [for n in local.joined.nodes : n if n.region == var.region]
}

# What is created belongs to one cluster. In the next one the nodes are others.
resource "terraform_data" "group" {
  triggers_replace = local.cluster.dir
  input = {
    region  = var.region
    dir     = local.cluster.dir
    lab     = abspath(var.lab)
    cluster = abspath(var.cluster)
  }

  lifecycle {
    precondition {
      condition     = local.cluster.dir != ""
      error_message = "cluster: ${var.cluster} is not there; is the cluster running (bin/punchclock-lab up)?"
    }
    precondition {
      condition     = contains(local.joined.regions, var.region)
      error_message = "region: ${var.region} is none of ${join(", ", local.joined.regions)}. For another one say -var with_database=true."
    }
  }

  # Says what it did not end cleanly, and then the region is still in the state;
  # the nodes are gone all the same, and the next destroy succeeds.
  provisioner "local-exec" {
    when    = destroy
    command = "\"$LAB\" nodes stop \"$REGION\" --cluster=\"$CLUSTER\" --dir=\"$DIR\""
    environment = {
      LAB     = self.input.lab
      CLUSTER = self.input.cluster
      REGION  = self.input.region
      DIR     = self.input.dir
    }
  }
}

# A launch template, its health check and its instance refresh: whatever changes
# here, missing nodes are started and different ones replaced one at a time, each
# drained before and ready afterwards. What is right is not touched, and what did
# not work is done again by the next apply.
resource "terraform_data" "nodes" {
  triggers_replace = {
    group    = terraform_data.group.id
    count    = var.nodes
    settings = var.settings
    binary   = local.binary
    crashes  = local.crashes
  }

  lifecycle {
    precondition {
      condition     = local.binary != ""
      error_message = "binary: ${var.binary} is not there; make build makes it."
    }
    precondition {
      condition     = var.nodes <= length(local.planned)
      error_message = "nodes: the cluster has addresses for ${length(local.planned)} nodes of ${var.region}."
    }
  }

  provisioner "local-exec" {
    command = "\"$LAB\" nodes start \"$REGION\" --count=\"$COUNT\" --cluster=\"$CLUSTER\" --binary=\"$BINARY\" --with=\"$SETTINGS\""
    environment = {
      LAB      = abspath(var.lab)
      BINARY   = abspath(var.binary)
      REGION   = var.region
      COUNT    = var.nodes
      CLUSTER  = abspath(var.cluster)
      SETTINGS = jsonencode(var.settings)
    }
  }
}
