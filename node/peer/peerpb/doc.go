// Package peerpb is the generated protocol of node/peer: messages and stubs,
// made from peer.proto by `make generate`. What they mean is said there.
package peerpb
