variable "deployment" {
  description = "Name of the deployment, which the certificates of its nodes carry."
  type        = string
}

variable "name" {
  description = "This region."
  type        = string
}

variable "domain" {
  description = "Public zone of the deployment."
  type        = string
}

variable "zone_id" {
  description = "Id of the public zone, for the proof that the certificate is ours."
  type        = string
}

variable "internal_zone" {
  description = "The private zone."
  type        = object({ name = string, id = string })
}

variable "regions" {
  description = "All regions of the deployment: where gossip looks for seeds."
  type        = list(string)
}

variable "vpc_id" {
  type = string
}

variable "public_subnets" {
  description = "Public subnet of each zone, for the balancer."
  type        = map(string)
}

variable "private_subnets" {
  description = "Private subnet of each zone, for the nodes."
  type        = map(string)
}

variable "security_groups" {
  description = "balancer, internal and nodes."
  type        = map(string)
}

variable "database_hosts" {
  description = "host:port of the database's servers, the nearest first."
  type        = list(string)
  validation {
    condition     = length(var.database_hosts) > 0
    error_message = "database_hosts: needs at least one."
  }
}

variable "key_arn" {
  description = "The deployment's key in this region."
  type        = string
}

variable "artifacts" {
  description = "Bucket of the artifacts in this region."
  type        = string
}

variable "release" {
  description = "Version of punchclock, and the SHA-256 of its artifact."
  type        = object({ version = string, sha256 = string })
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.release.sha256))
    error_message = "release: sha256 must be 64 hexadecimal digits."
  }
}

variable "image" {
  description = "Amazon Linux 2023 for arm64. The newest when it is not named, so that an apply after a new one replaces the nodes, one after the other."
  type        = string
  default     = null
  validation {
    condition     = var.image == null || can(regex("^ami-[0-9a-f]+$", var.image))
    error_message = "image: must be the id of an image, such as ami-0123456789abcdef0."
  }
}

variable "instance_type" {
  description = "A machine with Graviton processors."
  type        = string
  default     = "c7g.large"
  validation {
    condition     = can(regex("^[a-z]+[0-9]+g[a-z]*\\.", var.instance_type))
    error_message = "instance_type: must have Graviton processors, such as c7g.large: the artifacts are built for arm64."
  }
}

variable "size" {
  description = "Nodes: always at least least, never more than most. Peaks say what they need."
  type        = object({ least = number, most = number })
  default     = { least = 3, most = 12 }
  validation {
    condition     = var.size.least >= 2 && var.size.most >= var.size.least
    error_message = "size: least must be 2 or more, so that one node may go, and most at least as many."
  }
}

variable "peaks" {
  description = "When more nodes are needed, by the local clock of a zone: `punchclock forecast --terraform` writes them. from is before the rush, because a new node takes about three minutes, and half a minute to be trusted with a full share. A peak whose to is not after its from ends on the next day. utc_offsets are the zone's offsets over the year, in minutes east."
  type        = list(object({ zone = string, utc_offsets = list(number), days = list(string), from = string, to = string, nodes = number }))
  default     = []
  validation {
    condition     = alltrue([for p in var.peaks : length(p.days) > 0 && length(setsubtract(p.days, ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"])) == 0])
    error_message = "peaks: days must be some of MON, TUE, WED, THU, FRI, SAT, SUN, not ${jsonencode([for p in var.peaks : p.days if length(p.days) == 0 || length(setsubtract(p.days, ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"])) > 0])}."
  }
  validation {
    condition     = alltrue([for p in var.peaks : can(regex("^[A-Z][A-Za-z_]+(/[A-Za-z_-]+)+$", p.zone))])
    error_message = "peaks: zone must be an IANA name such as Europe/Berlin, not ${jsonencode([for p in var.peaks : p.zone if !can(regex("^[A-Z][A-Za-z_]+(/[A-Za-z_-]+)+$", p.zone))])}."
  }
  validation {
    condition     = alltrue([for p in var.peaks : length(p.utc_offsets) > 0 && alltrue([for o in p.utc_offsets : o >= -720 && o <= 840])])
    error_message = "peaks: utc_offsets must be minutes from -720 to 840, such as [60, 120] for Europe/Berlin, not ${jsonencode([for p in var.peaks : "${p.zone} ${jsonencode(p.utc_offsets)}"])}."
  }
  validation {
    condition     = length(distinct([for p in var.peaks : "${p.zone} ${jsonencode(sort([for o in p.utc_offsets : format("%05d", o + 10000)]))}"])) == length(distinct(var.peaks[*].zone))
    error_message = "peaks: a zone must have the same utc_offsets in each of its peaks: ${jsonencode(distinct([for p in var.peaks : "${p.zone} ${jsonencode(p.utc_offsets)}"]))}."
  }
  validation {
    condition     = alltrue(flatten([for p in var.peaks : [for t in [p.from, p.to] : can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", t))]]))
    error_message = "peaks: from and to are times of the local day such as 07:45, not ${jsonencode([for p in var.peaks : "${p.from} to ${p.to}" if !alltrue([for t in [p.from, p.to] : can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", t))])])}."
  }
  validation {
    condition     = alltrue([for p in var.peaks : p.nodes >= var.size.least && p.nodes <= var.size.most && floor(p.nodes) == p.nodes])
    error_message = "peaks: nodes must be from least (${var.size.least}) to most (${var.size.most}), not ${jsonencode([for p in var.peaks : "${p.nodes} at ${p.from} ${p.zone}" if p.nodes < var.size.least || p.nodes > var.size.most || floor(p.nodes) != p.nodes])}. If a peak needs more, raise most."
  }
}

variable "tokens" {
  description = "Who signs the callers' tokens: URL of the key set, issuer, audience, and the claim that names the employee."
  type        = object({ jwks = string, issuer = string, audience = string, employee_claim = optional(string, "sub") })
  validation {
    condition     = startswith(var.tokens.jwks, "https://")
    error_message = "tokens: jwks must be an https URL: keys fetched over http can be replaced on the way."
  }
}

variable "trace_ratio" {
  description = "Share of punches that are traced, 0 to 1. The collector keeps errors and slow ones among them and drops most of the rest, so what it is not sent it cannot keep."
  type        = number
  default     = 1
  validation {
    condition     = var.trace_ratio >= 0 && var.trace_ratio <= 1
    error_message = "trace_ratio: must be from 0 to 1."
  }
}

variable "connections_per_home" {
  description = "Statements in flight for each home region and node. About 4 for each vCPU of the database, over all nodes."
  type        = number
  default     = 4
  validation {
    condition     = var.connections_per_home >= 1
    error_message = "connections_per_home: must be at least 1."
  }
}
