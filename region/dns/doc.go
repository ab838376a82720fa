// Package dns answers where clients may punch: an authoritative name server for
// clock.<zone> and <region>.clock.<zone> that answers from a region.View. It is
// no resolver, keeps no zone file and serves no other name.
//
// clock.<zone> has the addresses of one region's nodes: of the first region, in
// the order of the client's network or else in the configured one, that has
// ready nodes and whose database commits. <region>.clock.<zone> has those of
// that region while a node there is ready and reaches its database; else those
// of the next region in the configured order. Every node takes every punch, so
// that another region's address serves a client at once, while the addresses of
// an evacuated or lost region would cost it a time-out on each punch, and no
// address at all would be remembered by resolvers as an error.
//
// No name is ever without an answer because nobody is ready: then the addresses
// that were good last are. A server that has never seen a ready node answers
// SERVFAIL, so that the resolver asks another one.
//
// A wrong answer costs a client one more attempt. Nothing here decides where a
// punch is stored.
package dns
