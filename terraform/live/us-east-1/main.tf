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
  time_zones = ["America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"]
}

output "region" { value = module.region }
