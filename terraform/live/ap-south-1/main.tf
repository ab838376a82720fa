terraform {
  backend "s3" { key = "ap-south-1/terraform.tfstate" }
}

provider "aws" {
  region = "ap-south-1"
}

module "region" {
  source     = "../../modules/region"
  name       = "ap-south-1"
  deployment = jsondecode(file("../deployment.json"))
  peaks      = jsondecode(file("../peaks.json")).peaks["ap-south-1"]
}

output "region" { value = module.region }
