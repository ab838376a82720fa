// Package gossip keeps a region.Cluster up to date from hashicorp/memberlist:
// who is in the cluster, in which state, how busy, and which company changed.
// It decides nothing. Whom to ask is region.Router's answer, and what a change
// means is the database's; all that comes from here is a hint.
//
// One pool spans all regions. What travels, and what its loss costs:
//
//   - Metadata (region, state, peer address, public URL and addresses, weight) rides on
//     memberlist's own alive messages: bounded by 512 bytes, repaired by each
//     push/pull, so a lost state is late and never missing.
//   - Load figures are sent about once a second by every node, found by a
//     per-node sequence; the newest wins. A lost one is replaced by the next. A
//     push/pull carries them too, so a node that joins need not wait.
//   - Company changes are sent once and passed on by every node that had not
//     heard of them, until all have or the hops are used up. A lost one is
//     noticed when the company directory reads the entry anew. Nothing keeps
//     them for a node that joins later: its directory is empty.
//   - Which keys a node has, as fingerprints, is sent when it changes, passed on
//     in the same way, and repaired by each push/pull.
//
// A node is on the board from the moment it is heard of until it leaves or is
// found dead; a suspect one stays, because calls notice failures earlier than
// gossip and gossip only confirms. Two sides of a network partition forget each
// other after a while: the join loop keeps asking lost peers and the seeds, and
// merges the pool again. Anybody who can reach the port may join a pool without
// keys, so set them outside of loopback. Keys change while a node runs; that
// there are any does not: nodes with and without keys do not hear each other,
// and are two pools.
package gossip
