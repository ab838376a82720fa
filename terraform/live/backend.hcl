# The states' bucket, for every folder: terraform init -backend-config=../backend.hcl
bucket       = "example-punchclock-terraform"
region       = "us-east-1"
encrypt      = true
use_lockfile = true
