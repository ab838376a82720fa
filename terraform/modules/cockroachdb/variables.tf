variable "deployment" {
  description = "Name of the deployment."
  type        = string
}

variable "name" {
  description = "This region."
  type        = string
}

variable "regions" {
  description = "All regions of the deployment, the first one primary."
  type        = list(string)
  validation {
    condition     = contains(var.regions, var.name)
    error_message = "regions: must contain this region."
  }
}

variable "staying" {
  description = "Those of regions that are not about to leave: the system's own ranges are pinned to the first three. A server cannot hand over what is pinned to its region."
  type        = list(string)
  validation {
    condition     = length(var.staying) > 0 && length(setsubtract(var.staying, var.regions)) == 0 && var.staying[0] == var.regions[0]
    error_message = "staying: must be some of regions, and the first of them, where the database's primary region is."
  }
}

variable "zones" {
  description = "The three availability zones, in order."
  type        = list(string)
  validation {
    condition     = length(var.zones) == 3
    error_message = "zones: must be three."
  }
}

variable "subnets" {
  description = "Private subnet of each zone."
  type        = map(string)
}

variable "security_group" {
  type = string
}

variable "servers" {
  description = "Servers in this region, spread over the zones in turn: 3, 6, 9 …"
  type        = number
  default     = 3
  validation {
    condition     = var.servers >= 3 && var.servers <= 30 && var.servers % 3 == 0
    error_message = "servers: must be 3, 6 and so on up to 30: as many in each zone."
  }
}

variable "instance_type" {
  description = "A machine with Graviton processors. CockroachDB wants at least 4 vCPU and 4 GB for each."
  type        = string
  default     = "m7g.xlarge"
  validation {
    condition     = can(regex("^[a-z]+[0-9]+g[a-z]*\\.", var.instance_type))
    error_message = "instance_type: must have Graviton processors, such as m7g.xlarge: the artifacts are built for arm64."
  }
}

variable "disk" {
  description = "gp3 volume of each server: size in GB, IOPS, throughput in MB/s. It can grow while it is in use, never shrink."
  type        = object({ size = number, iops = number, throughput = number })
  default     = { size = 200, iops = 3000, throughput = 125 }
  validation {
    condition     = var.disk.size >= 50 && var.disk.iops >= 3000 && var.disk.iops <= 16000 && var.disk.throughput >= 125 && var.disk.throughput <= 1000
    error_message = "disk: size at least 50, iops 3000 to 16000, throughput 125 to 1000."
  }
}

variable "key_arn" {
  description = "The deployment's key in this region."
  type        = string
}

variable "internal_zone" {
  description = "The private zone."
  type        = object({ name = string, id = string })
}

variable "artifacts" {
  description = "Bucket of the artifacts in this region."
  type        = string
}

variable "backups" {
  description = "Bucket of the backups in each region."
  type        = map(string)
}

variable "release" {
  description = "What to install: for cockroach and punchclock the version and the SHA-256 of the artifact."
  type        = map(object({ version = string, sha256 = string }))
  validation {
    condition     = alltrue([for r in values(var.release) : can(regex("^[0-9a-f]{64}$", r.sha256))])
    error_message = "release: each sha256 must be 64 hexadecimal digits."
  }
}

variable "licence" {
  description = "Number of the licence in its secret, raised whenever another one is put there; 0: there is none. Without one CockroachDB throttles a cluster of several servers to 5 open transactions 7 days after its initialisation: enough for nothing."
  type        = number
  default     = 0
  validation {
    condition     = var.licence >= 0 && floor(var.licence) == var.licence
    error_message = "licence: must be a whole number, 0 or more."
  }
}

variable "organisation" {
  description = "Organisation that the licence was issued to."
  type        = string
  default     = ""
  validation {
    condition     = !strcontains(var.organisation, "'")
    error_message = "organisation: must not contain an apostrophe."
  }
}

variable "telemetry" {
  description = "Whether CockroachDB reports its use to its makers, which their free licence asks for."
  type        = bool
  default     = true
}
