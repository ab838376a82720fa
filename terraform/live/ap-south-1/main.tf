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
  time_zones = ["Asia/Singapore", "Asia/Kolkata", "Asia/Dubai"]
}

output "region" { value = module.region }
