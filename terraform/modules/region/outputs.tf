output "url" {
  description = "Where devices reach this region."
  value       = module.nodes.url
}

output "names" {
  description = "The names that lead here."
  value       = module.dns.names
}

output "addresses" {
  description = "The region's public addresses."
  value       = module.nodes.addresses
}

output "console" {
  description = "The operator's shell, with punchclock and cockroach in it."
  value       = module.cockroachdb.console
}

output "setup" {
  description = "Association that sets the database up: aws ssm start-associations-once --association-ids."
  value       = module.cockroachdb.setup_association
}

output "database" {
  description = "The database's servers."
  value       = module.cockroachdb.servers
}

output "nodes" {
  description = "Autoscaling group of the nodes."
  value       = module.nodes.group
}

output "metrics" {
  description = "Where to ask for metrics, PromQL, signed."
  value       = module.observability.metrics
}
