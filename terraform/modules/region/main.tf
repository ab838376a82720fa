# One whole region: a folder of live/ is this module and nothing else.

data "terraform_remote_state" "global" {
  backend = "s3"
  config = {
    bucket = var.deployment.state.bucket
    region = var.deployment.state.region
    key    = "_global/terraform.tfstate"
  }
}

locals {
  global   = data.terraform_remote_state.global.outputs.global
  regions  = [for r in var.deployment.regions : r.name]
  position = index(local.regions, var.name)
}

module "network" {
  source       = "../network"
  deployment   = var.deployment.name
  name         = var.name
  network      = var.deployment.network
  cidr         = var.deployment.regions[local.position].cidr
  nat_gateways = var.nat_gateways
  # The regions before this one in the list: see peering.tf.
  peers = { for i, r in var.deployment.regions : r.name => { cidr = r.cidr } if i < local.position && !r.leaving }
}

# The private zone's names, seen from here.
resource "aws_route53_zone_association" "internal" {
  zone_id = local.global.internal_zone.id
  vpc_id  = module.network.vpc_id
}

locals {
  # By way of the association, so that names resolve before a machine asks for them.
  internal_zone = { name = local.global.internal_zone.name, id = aws_route53_zone_association.internal.zone_id }
}

module "cockroachdb" {
  source         = "../cockroachdb"
  deployment     = var.deployment.name
  name           = var.name
  regions        = local.regions
  staying        = [for r in var.deployment.regions : r.name if !r.leaving]
  zones          = module.network.zones
  subnets        = module.network.private_subnets
  security_group = module.network.security_groups["database"]
  servers        = var.database.servers
  instance_type  = var.database.instance_type
  disk           = var.database.disk
  key_arn        = local.global.keys[var.name]
  internal_zone  = local.internal_zone
  artifacts      = local.global.artifacts[var.name]
  backups        = local.global.backups
  release        = { for part in ["cockroach", "punchclock"] : part => var.deployment.release[part] }
  licence        = var.deployment.licence
  organisation   = var.deployment.organisation
  telemetry      = var.database.telemetry
}

module "nodes" {
  source          = "../nodes"
  deployment      = var.deployment.name
  name            = var.name
  domain          = var.deployment.domain
  zone_id         = local.global.zone_id
  internal_zone   = local.internal_zone
  regions         = local.regions
  vpc_id          = module.network.vpc_id
  public_subnets  = module.network.public_subnets
  private_subnets = module.network.private_subnets
  security_groups = module.network.security_groups
  database_hosts  = module.cockroachdb.hosts # which comes when the database has the region and the schema
  key_arn         = local.global.keys[var.name]
  artifacts       = local.global.artifacts[var.name]
  release         = var.deployment.release["punchclock"]
  image           = var.nodes.image
  instance_type   = var.nodes.instance_type
  size            = { least = var.nodes.least, most = var.nodes.most }
  trace_ratio     = var.nodes.trace_ratio
  peaks           = var.peaks
  tokens          = var.deployment.tokens
}

module "observability" {
  source            = "../observability"
  deployment        = var.deployment.name
  name              = var.name
  internal_zone     = local.internal_zone
  vpc_id            = module.network.vpc_id
  subnets           = module.network.private_subnets
  security_group    = module.network.security_groups["collector"]
  internal_balancer = module.nodes.internal_balancer
  balancer          = module.nodes.balancer
  servers           = module.cockroachdb.servers
  nodes             = { group = module.nodes.group, least = var.nodes.least }
  key_arn           = local.global.keys[var.name]
  artifacts         = local.global.artifacts[var.name]
  release           = var.deployment.release["collector"]
  instance_type     = var.collector.instance_type
  trace_endpoint    = var.collector.trace_endpoint
  subscribers       = var.deployment.subscribers
}

module "dns" {
  source     = "../dns"
  deployment = var.deployment.name
  name       = var.name
  domain     = var.deployment.domain
  zone_id    = local.global.zone_id
  addresses  = module.nodes.addresses
  general    = var.general
  topics     = local.global.topics

  depends_on = [module.nodes] # names come when there is something to lead to
}

module "guard" {
  source  = "./guard"
  region  = var.name
  command = var.destroy_check

  # Made last, and so destroyed first.
  depends_on = [
    module.network, module.cockroachdb, module.nodes, module.observability, module.dns,
    aws_route53_zone_association.internal,
  ]
}
