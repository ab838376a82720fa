package node

import (
	"fmt"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/region/gossip"
)

// gossipKeys reads the keyring file, and returns the function that reads it again. Without a file there are no keys.
func (n *Node) gossipKeys() (keys [][]byte, again func() ([][]byte, error), err error) {
	path := n.cfg.Gossip.KeyFile
	if path == "" {
		return nil, nil, nil
	}
	again = func() ([][]byte, error) { return gossip.ReadKeys(path) }
	if keys, err = again(); err != nil {
		return nil, nil, fmt.Errorf("--gossip-key-file: %w", err)
	}
	if certs.Exposed(path) {
		n.log.Warn("every user of this machine can read or change the gossip keys", "path", path)
	}
	return keys, again, nil
}

// keyrings returns the fingerprints of every node's keys, as far as this node knows them.
func (n *Node) keyrings() adminapi.Keyrings {
	list := adminapi.Keyrings{Node: n.self.Node, Nodes: []adminapi.Keyring{}}
	for _, k := range n.gossip.Keyrings() {
		of := adminapi.Keyring{Node: k.Node, Region: string(k.Region), Known: k.Known, Keys: []string{}}
		for _, f := range k.Keys {
			of.Keys = append(of.Keys, f.String())
		}
		list.Nodes = append(list.Nodes, of)
	}
	return list
}
