# No provider but Terraform's own: nothing is downloaded. The state is a file, a
# workspace of its own for each region; see the README.
terraform {
  required_version = "~> 1.11"
  backend "local" {}
}
