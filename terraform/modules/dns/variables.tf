variable "deployment" {
  description = "Name of the deployment."
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
  description = "Id of the public zone."
  type        = string
}

variable "addresses" {
  description = "Public address in each availability zone."
  type        = map(string)
  validation {
    condition     = length(var.addresses) > 0
    error_message = "addresses: needs at least one."
  }
}

variable "general" {
  description = "Whether the general name leads here, too. Say false while a new region is tried out by its own name."
  type        = bool
  default     = true
}

variable "ttl" {
  description = "How long an answer may be kept, in seconds: for so long, after the health checks have noticed, a device may still come to a region that is gone."
  type        = number
  default     = 10
  validation {
    condition     = var.ttl >= 5 && var.ttl <= 60
    error_message = "ttl: must be 5 to 60 seconds: shorter costs every device a look-up, longer keeps it at a lost region."
  }
}

variable "topics" {
  description = "Topics in us-east-1 for page and ticket: Route 53 has its metrics there."
  type        = map(string)
}
