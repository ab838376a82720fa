variable "deployment" {
  description = "Name of the deployment; the first part of every name."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,9}$", var.deployment))
    error_message = "deployment: 2 to 10 lower-case letters, digits and hyphens, a letter first: balancers' names, which begin with it, take no more."
  }
}

variable "domain" {
  description = "Public zone of the deployment, such as clock.example.com. Its parent must delegate to the zone's name servers."
  type        = string
  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain: must be a domain name in lower case, without a dot at its end."
  }
}

variable "regions" {
  description = "All regions, the first of them primary: there the database is initialised and artifacts are uploaded."
  type        = list(string)
  validation {
    condition     = length(var.regions) > 0 && length(distinct(var.regions)) == length(var.regions)
    error_message = "regions: must name at least one region, and none twice."
  }
}

variable "retired" {
  description = "Regions that were removed and whose backups are still kept: their buckets, and the key that reads them."
  type        = list(string)
  default     = []
  validation {
    condition     = length(setintersection(var.retired, var.regions)) == 0
    error_message = "retired: a region is either in service or retired."
  }
}

variable "backup_days" {
  description = "How long a backup is kept, in days."
  type        = number
  default     = 35
  validation {
    condition     = var.backup_days >= 7
    error_message = "backup_days: must be at least 7: a full backup and all that build on it."
  }
}

variable "subscribers" {
  description = "Addresses that are told, by urgency: page wakes somebody, ticket waits for working hours."
  type        = map(list(string))
  default     = {}
  validation {
    condition     = length(setsubtract(keys(var.subscribers), ["page", "ticket"])) == 0
    error_message = "subscribers: the keys are page and ticket."
  }
}
