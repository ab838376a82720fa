# The database's part of a region, in the order of terraform/modules/region: its server, its place in the database, and
# the guard of a destroy. It is for a region that is new to the cluster. The commands below never stop a server of the
# cluster's first regions.

# The server. A restart of its process does not replace it. A destroy decommissions it.
resource "terraform_data" "database" {
  count            = var.with_database ? 1 : 0
  triggers_replace = local.cluster.dir
  input = {
    region  = var.region
    cluster = abspath(var.cluster)
    dir     = local.cluster.dir
    lab     = abspath(var.lab)
  }

  lifecycle {
    precondition {
      condition     = local.cluster.dir != ""
      error_message = "cluster: ${var.cluster} does not exist. Start a cluster: bin/punchclock-lab up"
    }
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$LAB\" database stop \"$REGION\" --cluster=\"$CLUSTER\" --dir=\"$DIR\""
    environment = { LAB = self.input.lab, REGION = self.input.region, CLUSTER = self.input.cluster, DIR = self.input.dir }
  }
}

locals {
  # How often the region's server ended by itself. A new number makes the next apply start it. No apply resets the number.
  database_crashes = sum(concat([0], [for h in try(local.cluster.database.hosts, []) : h.crashes if h.region == var.region]))
}

# The server's process, and the region in the database. Both commands may run again.
resource "terraform_data" "joined" {
  count = var.with_database ? 1 : 0
  triggers_replace = {
    database = one(terraform_data.database).id
    crashes  = local.database_crashes
  }
  input = abspath(var.cluster)

  provisioner "local-exec" {
    command     = "\"$LAB\" database start \"$REGION\" --cluster=\"$CLUSTER\" && \"$BINARY\" region add \"$REGION\""
    environment = { LAB = abspath(var.lab), BINARY = abspath(var.binary), REGION = var.region, CLUSTER = abspath(var.cluster), PUNCHCLOCK_DATABASE_URL = local.cluster.database.url }
  }
}

# Terraform creates the guard last, and so destroys it first. A cluster that is gone has no homes to lose.
module "guard" {
  source     = "../modules/region/guard"
  count      = var.with_database ? 1 : 0
  region     = var.region
  command    = "! kill -0 ${local.cluster.pid} 2>/dev/null || PUNCHCLOCK_DATABASE_URL='${local.cluster.database.url}' '${abspath(var.binary)}' region remove --check \"$GUARDED_REGION\""
  depends_on = [terraform_data.nodes]
}
