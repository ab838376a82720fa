// Package dns is an authoritative name server for clock.<zone> and <region>.clock.<zone>. It answers with the addresses
// of nodes that accept punches, from the region.Cluster of this node. It is no resolver, reads no zone file and serves
// no other name.
//
// A wrong answer costs a client one more attempt. Nothing here decides where a punch is stored. DESIGN.md explains how
// an answer is chosen.
package dns
