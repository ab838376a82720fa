package dispatch

import (
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

const (
	// openAfter is how many calls in a row must fail: one may be a peer that
	// is being restarted, three are not chance. A frozen peer fails all the
	// calls on its connection at once.
	openAfter = 3
	// probeAfter is how long an open circuit waits until one call may try the
	// peer again: a restart takes some seconds, and a probe that fails costs
	// its items one more candidate.
	probeAfter = 2 * time.Second
	// slowAfter is from when a peer counts as gray although it answered: the
	// time beyond its own handling of the call, which is the network, its
	// sockets and its scheduler. Regions are at most 300 ms apart.
	slowAfter = time.Second
	// knownPeers bounds the circuits kept, since nodes come back under new
	// names: many times the nodes of any cluster, and about 1 MB.
	knownPeers = 4096
)

// circuits keep calls away from peers that fail, one circuit per peer, fed by
// the calls themselves. What a peer says of a punch never counts.
type circuits struct {
	notify func(node string, open bool)

	mu     sync.RWMutex // guards byNode
	byNode map[string]circuitbreaker.CircuitBreaker[any]
}

func newCircuits(notify func(node string, open bool)) *circuits {
	return &circuits{notify: notify, byNode: make(map[string]circuitbreaker.CircuitBreaker[any])}
}

func (c *circuits) of(node string) circuitbreaker.CircuitBreaker[any] {
	c.mu.RLock()
	circuit, known := c.byNode[node]
	c.mu.RUnlock()
	if known {
		return circuit
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if circuit, known = c.byNode[node]; known {
		return circuit
	}
	if len(c.byNode) >= knownPeers { // those that matter are made anew by the next calls
		clear(c.byNode)
	}
	circuit = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(openAfter).WithSuccessThreshold(1).WithDelay(probeAfter).
		OnOpen(func(circuitbreaker.StateChangedEvent) { c.notify(node, true) }).
		OnClose(func(circuitbreaker.StateChangedEvent) { c.notify(node, false) }).
		Build()
	c.byNode[node] = circuit
	return circuit
}

// usable reports whether a call to the node may be tried now.
func (c *circuits) usable(node string) bool {
	c.mu.RLock()
	circuit, known := c.byNode[node]
	c.mu.RUnlock()
	return !known || !circuit.IsOpen() || circuit.RemainingDelay() == 0
}

// open lists the nodes whose circuit is not closed.
func (c *circuits) open() (nodes []string) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for node, circuit := range c.byNode {
		if !circuit.IsClosed() {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// budget bounds what retries add to the load of the peers that are left: one
// punch in five. Without it a region that answers slowly would be asked twice
// for everything. The local fallback needs no budget.
type budget struct {
	mu   sync.Mutex // guards left
	left float64
}

const (
	retryShare = 0.2
	// retryBurst covers the batches in flight towards a peer when it fails.
	retryBurst = 4096
)

func newBudget() *budget { return &budget{left: retryBurst} }

// earn adds to the budget for punches that were sent to their first candidate.
func (b *budget) earn(punches int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+retryShare*float64(punches), retryBurst)
}

// spend takes from the budget and reports whether there was enough.
func (b *budget) spend(punches int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < float64(punches) {
		return false
	}
	b.left -= float64(punches)
	return true
}
