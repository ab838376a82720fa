# The nodes of a region on this machine, in the shape of terraform/modules/nodes on AWS. A group stays while its nodes are
# replaced, and its destroy stops them. See database.tf for the database's part of a region.

locals {
  # A destroy works without the cluster's file and without the binary.
  nothing = jsonencode({ pid = 0, dir = "", regions = [], nodes = [], database = { url = "" } })
  cluster = jsondecode(fileexists(var.cluster) ? file(var.cluster) : local.nothing)
  binary  = fileexists(var.binary) ? filesha256(var.binary) : ""
  # How often a node of the region ended by itself. A new number makes the next apply start it. No apply resets the number.
  crashes = sum(concat([0], [for n in local.cluster.nodes : n.crashes if n.region == var.region]))

  # The cluster's file after the region was added to it, which may happen during the apply.
  joined  = var.with_database ? jsondecode(fileexists(one(terraform_data.joined).output) ? file(one(terraform_data.joined).output) : local.nothing) : local.cluster
  planned = [for n in local.joined.nodes : n if n.region == var.region]
}

# The group belongs to one cluster. Another cluster in the same file replaces it.
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
      error_message = "cluster: ${var.cluster} does not exist. Start a cluster: bin/punchclock-lab up"
    }
    precondition {
      condition     = contains(local.joined.regions, var.region)
      error_message = "region: ${var.region} is none of ${join(", ", local.joined.regions)}. Add a new region with -var with_database=true."
    }
  }

  # The command fails when a node did not stop cleanly. The region then stays in the state although its nodes are gone,
  # and the next destroy succeeds.
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

# The launch template, the health check and the instance refresh. A change starts missing nodes and replaces different
# ones one at a time: each is drained before, and ready before the next. Other nodes stay as they are. The next apply
# repeats a step that failed.
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
      error_message = "binary: ${var.binary} does not exist. Build it: make build"
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
