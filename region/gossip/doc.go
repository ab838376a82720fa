// Package gossip keeps a region.Cluster up to date from hashicorp/memberlist: the nodes of all regions, their states
// and their loads. It also spreads the operators' switches, and tells which gossip keys each node has.
//
// It decides nothing. region.Router chooses the nodes for a punch, and the database refuses a punch that went the wrong
// way. Everything that gossip brings is a hint. DESIGN.md explains the messages and the effect of a lost one.
package gossip
