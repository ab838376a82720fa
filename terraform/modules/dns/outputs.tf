output "names" {
  description = "The names that lead here."
  value       = concat([local.regional], var.general ? [var.domain] : [])
}
