package gossip

import (
	"context"
	"time"

	"github.com/punchclock/punchclock/region"
)

// Keyring is what a node says of its keys.
type Keyring struct {
	Node   string
	Region region.Name
	// Known is false for a node that has not said: one of an older release, or
	// one that has just joined.
	Known bool
	// Keys are the fingerprints of its keys, of which the first one sends;
	// none when its gossip is not encrypted.
	Keys []Fingerprint
}

// Keyrings returns what each node on the board last said of its keys, this
// one's own first.
func (g *Gossip) Keyrings() []Keyring { return g.roster.keyrings() }

// sayKeys tells the others which keys this node has.
func (g *Gossip) sayKeys(keys [][]byte) {
	_, dropped := g.news.publish(g.roster.setSelfKeys(fingerprints(keys)))
	g.metrics.company(companyDropped, dropped)
}

// heardKeys takes another node's keys and passes them on.
func (g *Gossip) heardKeys(n keysNews) {
	g.roster.setKeys(n)
	n.hops++
	_, dropped := g.news.publish(n)
	g.metrics.company(companyDropped, dropped)
}

// keyLoop looks for other keys. What it reads holds only when the next reading
// finds the same: a file that is being written in place may be seen half.
func (g *Gossip) keyLoop(ctx context.Context) {
	if g.deps.Keys == nil {
		return
	}
	ticker := time.NewTicker(g.pace.keys)
	defer ticker.Stop()
	var seen [][]byte
	complaint := ""
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		keys, err := g.deps.Keys()
		if err == nil && !sameKeys(keys, g.keys) && sameKeys(keys, seen) {
			err = g.takeKeys(keys)
		}
		seen = keys
		switch {
		case err == nil:
			complaint = ""
		case err.Error() != complaint: // not once a second
			complaint = err.Error()
			g.log.Error("gossip keys cannot be read again; keeping the ones in use", "error", err)
			fallthrough
		default:
			g.metrics.keyring(keyringFailed)
			seen = nil
		}
	}
}

// takeKeys makes keys this node's.
func (g *Gossip) takeKeys(keys [][]byte) error {
	if len(keys) == 0 { // it would turn the encryption off
		return errNoKeys
	}
	if err := install(g.ring, keys); err != nil {
		return err
	}
	g.keys = keys
	g.sayKeys(keys)
	g.metrics.keyring(keyringChanged)
	g.log.Warn("gossip keys changed", "sends", FingerprintOf(keys[0]).String(), "keys", len(keys))
	return nil
}
