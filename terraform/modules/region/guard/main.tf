# Refuses to destroy a region while any home, row or service remains. The guard is made last and
# destroyed first. It is destroyed only when the command finds nothing that prevents it; until then
# Terraform touches nothing else.

terraform {
  required_version = "~> 1.11"
}

variable "region" {
  description = "Region that is guarded."
  type        = string
}

variable "command" {
  description = "Run by the machine that runs Terraform, before anything is destroyed, with the region's name in GUARDED_REGION. Any exit status but 0 refuses."
  type        = string
  validation {
    condition     = trimspace(var.command) != ""
    error_message = "command: must not be empty: nothing would hold the destroy back."
  }
}

resource "terraform_data" "homes" {
  # A destroy-time provisioner sees its own values only.
  input = { region = var.region, command = var.command }

  provisioner "local-exec" {
    when        = destroy
    command     = self.output.command
    environment = { GUARDED_REGION = self.output.region }
  }
}
