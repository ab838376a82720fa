terraform {
  backend "s3" { key = "_global/terraform.tfstate" }
  required_version = "~> 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

locals {
  deployment = jsondecode(file("../deployment.json"))
}

provider "aws" {
  region = local.deployment.regions[0].name
  default_tags { tags = { deployment = local.deployment.name } }
}

variable "licence" {
  description = "Licence key of CockroachDB; TF_VAR_licence keeps it out of the shell's history."
  type        = string
  ephemeral   = true
  sensitive   = true
  default     = null
}

variable "licence_version" {
  description = "Raise it when the licence changes; 0 while there is none."
  type        = number
  default     = 0
}

module "global" {
  source          = "../../modules/global"
  deployment      = local.deployment.name
  domain          = local.deployment.domain
  regions         = [for r in local.deployment.regions : r.name]
  retired         = local.deployment.retired
  subscribers     = local.deployment.subscribers
  licence         = var.licence
  licence_version = var.licence_version
}

output "global" {
  value = module.global
}

# By itself: it is asked for before there is anything else.
output "name_servers" {
  value = module.global.name_servers
}
