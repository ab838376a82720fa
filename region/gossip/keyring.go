package gossip

import (
	"context"
	"time"

	"github.com/punchclock/punchclock/region"
)

// Keyring tells which gossip keys a node has.
type Keyring struct {
	Node   string
	Region region.Name
	// Known is false for a node that has not reported its keys. It joined a moment ago or runs an older release.
	Known bool
	// Keys are the fingerprints of its keys, the sending key's first. The list is empty if its gossip is not encrypted.
	Keys []Fingerprint
}

// Keyrings returns the last report of each node in the cluster view, this node's first.
func (g *Gossip) Keyrings() []Keyring { return g.members.keyrings() }

// keyLoop looks for changed keys. A change is applied when two readings in a row return it, because the first reading
// may see a file that is half written.
func (g *Gossip) keyLoop(ctx context.Context) {
	if g.deps.Keys == nil {
		return
	}
	ticker := time.NewTicker(g.timings.keys)
	defer ticker.Stop()
	var previous [][]byte
	logged := ""
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		keys, err := g.deps.Keys()
		if err == nil && !sameKeys(keys, g.ownKeys) && sameKeys(keys, previous) {
			err = g.applyKeys(keys)
		}
		previous = keys
		switch {
		case err == nil:
			logged = ""
		case err.Error() != logged: // once, not every second
			logged = err.Error()
			g.log.Error("the gossip keys cannot be read; the present keys stay in use", "error", err)
			fallthrough
		default:
			g.metrics.keysReloaded(keysFailed)
			previous = nil
		}
	}
}

// applyKeys makes keys the keys of this node.
func (g *Gossip) applyKeys(keys [][]byte) error {
	if len(keys) == 0 { // an empty keyring would turn the encryption off
		return errNoKeys
	}
	if err := install(g.ring, keys); err != nil {
		return err
	}
	g.ownKeys = keys
	g.broadcastKeys(g.members.setSelfKeys(fingerprints(keys)))
	g.metrics.keysReloaded(keysChanged)
	g.log.Warn("the gossip keys have changed", "sends", FingerprintOf(keys[0]).String(), "keys", len(keys))
	return nil
}
