// Package peerpb is the generated protocol of node/peer: messages and stubs, made from peer.proto by `make generate`. The
// comments in peer.proto explain them.
package peerpb
