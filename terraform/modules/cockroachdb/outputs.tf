output "hosts" {
  description = "host:port of the servers, those of this region first, then the other regions' in the deployment's order."
  value       = concat([for name in sort(keys(local.servers)) : "${name}.${var.name}.${var.internal_zone.name}:26257"], flatten([for r in var.regions : [for a in local.address[r] : "${a}:26257"] if r != var.name]))
  depends_on  = [aws_ssm_association.setup] # nodes come after the schema
}

output "servers" {
  description = "Name, instance, volume and zone of each server."
  value = { for name, server in local.servers : name => {
    instance = aws_instance.server[name].id, volume = aws_ebs_volume.data[name].id, zone = server.zone
  } }
}

output "console" {
  description = "The operator's shell, with punchclock and cockroach in it."
  value       = "aws ssm start-session --region ${var.name} --target ${aws_instance.server["db1"].id}"
}

output "setup_association" {
  description = "What runs the setup: aws ssm start-associations-once does so at once."
  value       = aws_ssm_association.setup.association_id
}

output "user_data" {
  description = "What each server is started with."
  value       = local.user_data
}

output "setup" {
  description = "What the first server runs."
  value       = local.setup
}
