output "nodes" {
  description = "Addresses of the public API and of health and metrics, and the log, of each node."
  value = {
    for n in slice(local.planned, 0, min(var.nodes, length(local.planned))) : n.name => {
      public_url = n.public_url
      ops_url    = n.ops_url
      log        = n.log
    }
  }
}
