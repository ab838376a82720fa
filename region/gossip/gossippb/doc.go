// Package gossippb is the generated code of the gossip messages. `make generate` makes it from gossip.proto, which
// explains the messages.
package gossippb
