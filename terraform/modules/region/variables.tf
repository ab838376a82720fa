variable "name" {
  description = "AWS region, which is also the region's name in Punchclock and in DNS. It must stand in the deployment's list."
  type        = string
  validation {
    condition     = contains([for r in var.deployment.regions : r.name], var.name)
    error_message = "name: ${var.name} does not stand in the regions of live/deployment.json. Add it at the end of the list, and apply _global first."
  }
}

variable "deployment" {
  description = "What all folders share: live/deployment.json."
  type = object({
    name    = string
    domain  = string
    network = string
    # The bucket of the states, where _global's outputs are read.
    state = object({ bucket = string, region = string })
    # Later regions drop their connections to a region that is leaving, because AWS destroys no VPC
    # with a connection. The first region takes the database's system ranges off it.
    regions      = list(object({ name = string, cidr = string, leaving = optional(bool, false) }))
    tokens       = object({ jwks = string, issuer = string, audience = string, employee_claim = optional(string, "sub") })
    organisation = string
    # Raise it whenever another licence of CockroachDB is put into its secret.
    licence     = optional(number, 0)
    release     = map(object({ version = string, sha256 = string }))
    subscribers = optional(map(list(string)), {})
  })
  validation {
    condition     = length(distinct([for r in var.deployment.regions : r.cidr])) == length(var.deployment.regions)
    error_message = "deployment: regions must have a cidr each."
  }
  validation {
    condition     = !var.deployment.regions[0].leaving
    error_message = "deployment: the first region cannot leave: the database's primary region is there."
  }
}

variable "peaks" {
  description = "This region's peaks of live/peaks.json, as modules/nodes explains them."
  type        = list(object({ zone = string, utc_offsets = list(number), days = list(string), from = string, to = string, nodes = number }))
}

variable "nodes" {
  description = "Machines of the nodes."
  type = object({
    instance_type = optional(string, "c7g.large")
    least         = optional(number, 3)
    most          = optional(number, 12)
    image         = optional(string)
    trace_ratio   = optional(number, 1)
  })
  default = {}
}

variable "database" {
  description = "Machines and disks of the database."
  type = object({
    instance_type = optional(string, "m7g.xlarge")
    servers       = optional(number, 3)
    disk          = optional(object({ size = number, iops = number, throughput = number }), { size = 200, iops = 3000, throughput = 125 })
    telemetry     = optional(bool, true)
  })
  default = {}
}

variable "collector" {
  description = "Machine of the collector, and the trace store."
  type = object({
    instance_type  = optional(string, "m7g.medium")
    trace_endpoint = optional(string, "")
  })
  default = {}
}

variable "nat_gateways" {
  description = "1 or 3."
  type        = number
  default     = 3
}

variable "general" {
  description = "Whether the general name leads here, too. Say false while a new region is tried out by its own name."
  type        = bool
  default     = true
}

variable "destroy_check" {
  description = "What must succeed before anything of the region is destroyed."
  type        = string
  default     = "punchclock region remove --check \"$GUARDED_REGION\""
}
