variable "deployment" {
  description = "Name of the deployment; the first part of every name."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,9}$", var.deployment))
    error_message = "deployment: 2 to 10 lower-case letters, digits and hyphens, a letter first: balancers' names, which begin with it, take no more."
  }
}

variable "name" {
  description = "AWS region, which is also the region's name in Punchclock and in DNS."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.name))
    error_message = "name: must be an AWS region such as eu-west-1."
  }
}

variable "cidr" {
  description = "Addresses of this region, a /16 inside network that no other region has."
  type        = string
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "cidr: must be a /16 such as 10.64.0.0/16; subnets are cut from it."
  }
}

variable "network" {
  description = "Addresses of the whole deployment, now and with regions to come. What regions open to each other they open to these."
  type        = string
  validation {
    condition     = can(cidrhost(var.network, 0))
    error_message = "network: must be an IPv4 range such as 10.64.0.0/12."
  }
}

variable "peers" {
  description = "Regions that come before this one in the deployment's list. The later region makes the connection, and owns both ends of it."
  type        = map(object({ cidr = string }))
  default     = {}
}

variable "nat_gateways" {
  description = "1, or 3: one for each zone. Nodes need it for key sets and AWS's own services, not for a punch; with one, the loss of its zone delays new machines."
  type        = number
  default     = 3
  validation {
    condition     = contains([1, 3], var.nat_gateways)
    error_message = "nat_gateways: must be 1 or 3."
  }
}
