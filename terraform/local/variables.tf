variable "region" {
  description = "Region of the running cluster whose nodes these are; also the name of the workspace."
  type        = string
  # Also checked by a destroy: another region's state would else be taken for
  # this one's, and its nodes be stopped.
  validation {
    condition     = var.region == terraform.workspace
    error_message = "region: ${var.region} has its state in the workspace of that name, and ${terraform.workspace} is selected: terraform workspace select -or-create ${var.region}"
  }
}

variable "with_database" {
  description = "Whether the whole region is meant, with its part of the database, as on AWS: the database's server and region come before the nodes, the server goes after them, and destroy is refused while homes remain. Without it destroy takes the nodes alone."
  type        = bool
  default     = false
}

variable "nodes" {
  description = "How many nodes run; at most as many as the cluster has addresses for in a region (punchclock-lab up --nodes-per-region)."
  type        = number
  default     = 2
  validation {
    condition     = var.nodes >= 1 && floor(var.nodes) == var.nodes
    error_message = "nodes: must be a whole number, 1 or more; terraform destroy stops all."
  }
}

variable "settings" {
  description = "Further settings of the nodes, keyed as in a settings file, such as { log-level = \"debug\" }. Those that the cluster gives them cannot be changed."
  type        = map(string)
  default     = {}
}

variable "binary" {
  description = "The punchclock executable that the nodes run."
  type        = string
  default     = "../../bin/punchclock"
  validation {
    condition     = var.binary != ""
    error_message = "binary: is needed: the path of the punchclock executable, as make build leaves it in bin."
  }
}

variable "lab" {
  description = "The punchclock-lab executable that starts and stops nodes and database servers."
  type        = string
  default     = "../../bin/punchclock-lab"
}

variable "cluster" {
  description = "File that tells of the running cluster, as punchclock-lab up writes it."
  type        = string
  default     = "../../.run/cluster.json"
}
