package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/punchclock/punchclock/region"
)

const (
	// warmUpTimeout bounds the warm-up. Handshakes with several gateways and peers take about a second. A home or a peer
	// that does not answer must not keep the node out of service: the other homes need it.
	warmUpTimeout = 5 * time.Second
	// warmCall bounds one call to a peer: a connection with TLS between the farthest regions takes about a second.
	warmCall = 2 * time.Second
	// warmAgain is how often a connection to a peer is used. Load balancers and firewalls between regions forget a
	// connection after some minutes of silence, and our own client after five.
	warmAgain = time.Minute
	// warmCheck is how soon a peer that has joined is called. Until then it gets few punches (see region.Router).
	warmCheck = 5 * time.Second
	// warmParallel bounds the calls at the same time, so that a node that joins 300 others does not stop for handshakes.
	warmParallel = 16
	// directoryEvery is how often all homes are read again. An entry that no punch has used expires after a day, and a
	// company that rests over the weekend needs its entry on Monday. 100,000 companies are some MB.
	directoryEvery = time.Hour
)

// warmUp opens what the first punches of each home need: connections to the database with prepared statements, and
// connections to peers. What cannot be reached is logged and left.
func (n *Node) warmUp(ctx context.Context) error {
	warm := &warmth{node: n, called: make(map[string]time.Time)}
	first, cancel := context.WithTimeout(ctx, warmUpTimeout)
	defer cancel()
	var parts sync.WaitGroup
	parts.Go(func() {
		homes := make([]string, 0, 8)
		for _, home := range n.regions.all() {
			homes = append(homes, string(home))
		}
		if err := n.db.Warm(first, homes); err != nil {
			n.log.WarnContext(ctx, "the first punches of some homes will wait for a connection to the database", "error", err)
		}
	})
	parts.Go(func() { warm.peers(first) })
	parts.Wait()
	n.goUntilClosed(ctx, "connections to peers", warm.keep)
	n.goUntilClosed(ctx, "directory of companies", n.keepDirectory)
	return ctx.Err()
}

// warmth keeps the connections to peers open. Only one goroutine uses it at a time.
type warmth struct {
	node   *Node
	called map[string]time.Time // by the peer's name, which a restart changes
}

// keep calls each peer now and then, until ctx ends.
func (w *warmth) keep(ctx context.Context) {
	tick := time.NewTicker(warmCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.peers(ctx)
		}
	}
}

// peers calls the peers that may be asked to record a punch and that were not called for a while.
func (w *warmth) peers(ctx context.Context) {
	now := time.Now()
	present := make(map[string]time.Time, len(w.called))
	turn := make(chan struct{}, warmParallel)
	var calls sync.WaitGroup
	for _, m := range w.node.members() {
		// Punches of this region's homes stay here. A node that starts is called as well: it is ready in a moment.
		if m.Region == w.node.self.Region || m.PeerAddr == "" || m.State == region.Draining {
			continue
		}
		present[m.Node] = w.called[m.Node]
		if now.Sub(w.called[m.Node]) < warmAgain {
			continue
		}
		present[m.Node] = now
		turn <- struct{}{}
		calls.Go(func() {
			defer func() { <-turn }()
			w.call(ctx, &m)
		})
	}
	calls.Wait()
	w.called = present // without nodes that have left
}

// call connects to a peer. A failure is no news: gossip, the router and the circuit breakers judge peers.
func (w *warmth) call(ctx context.Context, m *region.Member) {
	ctx, cancel := context.WithTimeout(ctx, warmCall)
	defer cancel()
	if err := w.node.peers.Warm(ctx, string(m.Region), m.PeerAddr); err != nil {
		w.node.log.DebugContext(ctx, "no connection to a peer yet", "peer", m.Node, "error", err)
	}
}

// keepDirectory reads all homes again and again, until ctx ends. Nodes that started together do not read together.
func (n *Node) keepDirectory(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(directoryEvery/2 + rand.N(directoryEvery)):
		}
		if err := n.db.Homes(ctx, n.cfg.Directory.Capacity, n.directory.Put); err != nil && ctx.Err() == nil {
			n.log.InfoContext(ctx, "the homes of the companies cannot be read again; known ones stay in use", "error", err)
		}
	}
}
