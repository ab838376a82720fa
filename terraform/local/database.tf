# What a region has before it has nodes, and what is asked before it goes, in the
# order of terraform/modules/region. For a region that the cluster did not begin
# with; the servers of the others are the cluster's own, which the commands below
# leave alone.

# The database's server stays while its process is started again, and is
# decommissioned when the region goes.
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
      error_message = "cluster: ${var.cluster} is not there; is the cluster running (bin/punchclock-lab up)?"
    }
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$LAB\" database stop \"$REGION\" --cluster=\"$CLUSTER\" --dir=\"$DIR\""
    environment = { LAB = self.input.lab, REGION = self.input.region, CLUSTER = self.input.cluster, DIR = self.input.dir }
  }
}

locals {
  # How often the region's server ended by itself. An apply does not reset it.
  database_crashes = sum(concat([0], [for h in try(local.cluster.database.hosts, []) : h.crashes if h.region == var.region]))
}

# Its process runs, and then the database has the region. Both may be done again.
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

# Made last, and so destroyed first. A cluster that is gone has no homes to lose.
module "guard" {
  source     = "../modules/region/guard"
  count      = var.with_database ? 1 : 0
  region     = var.region
  command    = "! kill -0 ${local.cluster.pid} 2>/dev/null || PUNCHCLOCK_DATABASE_URL='${local.cluster.database.url}' '${abspath(var.binary)}' region remove --check \"$GUARDED_REGION\""
  depends_on = [terraform_data.nodes]
}
