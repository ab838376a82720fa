variable "region" {
  description = "Region of the running cluster, and name of the workspace."
  type        = string
  # A destroy checks it as well. Otherwise it would use the state of another region and stop that region's nodes.
  validation {
    condition     = var.region == terraform.workspace
    error_message = "region: ${var.region} has its state in the workspace of that name, and ${terraform.workspace} is selected: terraform workspace select -or-create ${var.region}"
  }
}

variable "with_database" {
  description = "Manage the whole region, with its part of the database, as on AWS. The server and the region come before the nodes, and the server goes after them. A destroy is refused while homes remain. Without it a destroy stops the nodes alone."
  type        = bool
  default     = false
}

variable "nodes" {
  description = "How many nodes run. The cluster has addresses for a limited number: punchclock-lab up --nodes-per-region."
  type        = number
  default     = 2
  validation {
    condition     = var.nodes >= 1 && floor(var.nodes) == var.nodes
    error_message = "nodes: must be a whole number of at least 1. To stop all: terraform destroy"
  }
}

variable "settings" {
  description = "Further settings of the nodes, with the keys of a settings file, such as { log-level = \"debug\" }. They cannot replace settings of the cluster."
  type        = map(string)
  default     = {}
}

variable "binary" {
  description = "The punchclock executable that the nodes run."
  type        = string
  default     = "../../bin/punchclock"
  validation {
    condition     = var.binary != ""
    error_message = "binary: must be the path of the punchclock executable, which make build writes to bin."
  }
}

variable "lab" {
  description = "The punchclock-lab executable that starts and stops nodes and database servers."
  type        = string
  default     = "../../bin/punchclock-lab"
}

variable "cluster" {
  description = "State file of the running cluster, which punchclock-lab up writes."
  type        = string
  default     = "../../.run/cluster.json"
}
