terraform {
  backend "s3" { key = "eu-west-1/terraform.tfstate" }
}

provider "aws" {
  region = "eu-west-1"
}

module "region" {
  source     = "../../modules/region"
  name       = "eu-west-1"
  deployment = jsondecode(file("../deployment.json"))
  peaks      = jsondecode(file("../peaks.json")).peaks["eu-west-1"]
}

output "region" { value = module.region }
