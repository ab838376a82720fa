output "nodes" {
  description = "Where the nodes are: public API, health and metrics, log."
  value = {
    for n in slice(local.planned, 0, min(var.nodes, length(local.planned))) : n.name => {
      public_url = n.public_url
      ops_url    = n.ops_url
      log        = n.log
    }
  }
}
