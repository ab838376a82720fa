terraform {
  backend "s3" { key = "us-east-1/terraform.tfstate" }
}

provider "aws" {
  region = "us-east-1"
}

module "region" {
  source     = "../../modules/region"
  name       = "us-east-1"
  deployment = jsondecode(file("../deployment.json"))
  peaks      = jsondecode(file("../peaks.json")).peaks["us-east-1"]
}

output "region" { value = module.region }
