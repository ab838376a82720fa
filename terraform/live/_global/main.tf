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

module "global" {
  source      = "../../modules/global"
  deployment  = local.deployment.name
  domain      = local.deployment.domain
  regions     = [for r in local.deployment.regions : r.name]
  retired     = local.deployment.retired
  subscribers = local.deployment.subscribers
}

output "global" {
  value = module.global
}

# A data source of its own: it is read before anything else exists.
output "name_servers" {
  value = module.global.name_servers
}
