variable "deployment" {
  description = "Name of the deployment."
  type        = string
}

variable "name" {
  description = "This region."
  type        = string
}

variable "internal_zone" {
  description = "The private zone."
  type        = object({ name = string, id = string })
}

variable "vpc_id" {
  type = string
}

variable "subnets" {
  description = "Private subnet of each zone."
  type        = map(string)
}

variable "security_group" {
  description = "Group of the collector."
  type        = string
}

variable "internal_balancer" {
  description = "Balancer inside the region, at which nodes find the collector."
  type        = object({ arn = string, dns_name = string, zone_id = string })
}

variable "balancer" {
  description = "The public balancer and its group of nodes, as CloudWatch names them."
  type        = object({ balancer = string, target_group = string })
}

variable "servers" {
  description = "Instance and volume of each server of the database."
  type        = map(object({ instance = string, volume = string, zone = string }))
}

variable "nodes" {
  description = "The nodes' autoscaling group, and how many of them are always there: with fewer somebody is told."
  type        = object({ group = string, least = number })
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
  description = "Version of the collector, and the SHA-256 of its artifact."
  type        = object({ version = string, sha256 = string })
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.release.sha256))
    error_message = "release: sha256 must be 64 hexadecimal digits."
  }
}

variable "instance_type" {
  description = "Machine of the collector. It holds the spans of some ten seconds until it decides which traces to keep."
  type        = string
  default     = "m7g.medium"
  validation {
    condition     = can(regex("^[a-z]+[0-9]+g[a-z]*\\.", var.instance_type))
    error_message = "instance_type: must have Graviton processors: the artifacts are built for arm64."
  }
}

variable "trace_endpoint" {
  description = "OTLP endpoint of the trace store, https and port 443. Empty: traces are received, and only their measurements are kept."
  type        = string
  default     = ""
  validation {
    condition     = var.trace_endpoint == "" || can(regex("^https://[^/]+", var.trace_endpoint))
    error_message = "trace_endpoint: must be an https URL."
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
