# Terraform creates the secrets and never sees their content. Each secret except the licence is a JSON object of
# file names and contents, as the machines write them. scripts/aws-secrets fills them from a folder
# of `punchclock dev-ca`. A certificate and its key are in one secret, so a single write rotates
# both.

locals {
  shared = {
    "gossip"            = "gossip.keys: the keyring of the nodes"
    "database/node"     = "database-ca.crt, client.punchclock_node.crt and .key: the nodes' login"
    "database/operator" = "client.{root,punchclock_migrator,punchclock_operator}.crt and .key: for the database's own machines"
    "authorities"       = "ca.crt and database-ca.crt: for who only checks the others"
    "database/licence"  = "the licence key of CockroachDB, plain"
  }
  regional = {
    "node"     = "ca.crt, node.crt and node.key: the nodes of the region, spiffe://${var.deployment}/node/REGION"
    "database" = "ca.crt, node.crt and node.key: CockroachDB's servers of the region"
  }
}

resource "aws_secretsmanager_secret" "shared" {
  for_each                = local.shared
  region                  = local.primary
  name                    = "${var.deployment}/${each.key}"
  description             = each.value
  kms_key_id              = local.keys[local.primary]
  recovery_window_in_days = 30

  dynamic "replica" {
    for_each = local.others
    content {
      region     = replica.value
      kms_key_id = local.keys[replica.value]
    }
  }
}

# Not replicated: a region's identity is useless in another region. Deleted at once with its region:
# scripts/aws-secrets can fill it again. A name that waits for its deletion would keep the region
# from coming back.
resource "aws_secretsmanager_secret" "regional" {
  for_each = merge([for r in var.regions : { for name, about in local.regional : "${r}/${name}" => {
    region = r, about = about
  } }]...)
  region                  = each.value.region
  name                    = "${var.deployment}/${each.key}"
  description             = each.value.about
  kms_key_id              = local.keys[each.value.region]
  recovery_window_in_days = 0
}
