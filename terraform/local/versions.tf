# Only Terraform's own provider, so nothing is downloaded. The state is a file, in a workspace for each region; see the
# README.
terraform {
  required_version = "~> 1.11"
  backend "local" {}
}
