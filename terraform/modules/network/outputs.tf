output "vpc_id" {
  value = aws_vpc.main.id
}

output "zones" {
  description = "The three availability zones, in order."
  value       = local.zones
}

output "public_subnets" {
  description = "Subnet of each zone, for the public balancer."
  value       = { for zone, s in aws_subnet.public : zone => s.id }
}

output "private_subnets" {
  description = "Subnet of each zone, for machines: with its routes, and with the ports that are open."
  value       = { for zone, s in aws_subnet.private : zone => s.id }
  depends_on = [
    aws_route.nat, aws_route.to_peer, aws_route.from_peer, aws_route_table_association.private, aws_vpc_endpoint.s3,
    aws_vpc_security_group_ingress_rule.open, aws_vpc_security_group_egress_rule.open,
  ]
}

output "security_groups" {
  description = "balancer, internal, nodes, database and collector."
  value       = { for name, g in aws_security_group.main : name => g.id }
}

output "open" {
  description = "Every port that is open: who, to whom, on which."
  value       = local.open
}

output "peered" {
  description = "Regions to which this one made a connection."
  value       = keys(local.peers)
}
