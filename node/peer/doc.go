// Package peer is the RPC between nodes, both ends. A batch of punches goes to a node of their home region, and one result
// comes back for each. The package does not choose the node and does not retry. The TLS configurations that it is given
// decide which nodes may call. It holds callers to the region in their certificate.
//
// One call carries a batch. Each item has its own deadline and its own trace context. Both travel in the item, because the
// deadline and the trace of the call belong to the batch.
//
//	entry node                               home node
//	batcher towards the region
//	  └ Client.RecordBatch ─ RecordRequest ─▶ handler: size, entry region, validity
//	                                           └ Home.RecordBatch: the home node's batcher
//	    outcomes ◀────────── RecordResponse ──────┘
//
// Failures: a call that fails as a whole leaves every item unconfirmed, because the home node may have committed it. To
// record the item again through another node makes it certain. An item that fails carries its code, and the entry node
// decides by the code. The called node never forwards, so a batch is forwarded once at most.
package peer
