// Package peer is the RPC between nodes, both ends: a batch of punches goes to
// a node in their home region, and a result comes back for each. It does not
// choose the node, does not decide what a punch is worth retrying, and does not
// know who may call: the TLS configurations that it is given do. It holds callers
// to the region in their certificate.
//
// One call carries a batch. Each item keeps its own deadline and its own
// trace: both travel in the item, because the request's belong to the batch.
//
//	entry node                          home node
//	lane towards the region
//	  └ Client.RecordBatch ── RecordRequest ──▶ Handler: size, validity
//	                                        └ Home.RecordBatch: its own lane
//	    outcomes ◀───── RecordResponse ────────┘
//
// Failures: a call that fails as a whole leaves every item open, since the
// home node may have committed it; asking again elsewhere settles it. An item
// that fails carries its code, and the entry node decides by the code. The
// called node never forwards, so a batch crosses one hop at most.
package peer
