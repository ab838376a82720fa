package dispatch

import (
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/punchclock/punchclock/region"
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
	// slowAfter is from when a peer may count as gray although it answered.
	// Regions are at most 300 ms apart, and a commit takes little more.
	slowAfter = time.Second
	// knownPeers bounds the circuits kept, since nodes come back under new
	// names: many times the nodes of any cluster, and about 1 MB.
	knownPeers = 4096
)

// circuits keep calls away from peers that fail, one circuit per peer, fed by
// the calls themselves. What a peer says of a punch never counts.
type circuits struct {
	notify func(node string, open bool)

	// present says whether gossip still shows a node.
	present func(node string) bool

	mu     sync.RWMutex // guards byNode, and the answered of each
	byNode map[string]*circuit
}

// circuit is that of one peer, with its latest answer.
type circuit struct {
	circuitbreaker.CircuitBreaker[any]
	answered answered
}

// answered is how long a peer took for a call, its way and its handling.
type answered struct {
	home region.Name
	at   time.Time
	took time.Duration
}

func newCircuits(present func(node string) bool, notify func(node string, open bool)) *circuits {
	return &circuits{present: present, notify: notify, byNode: make(map[string]*circuit)}
}

func (c *circuits) of(node string) *circuit {
	c.mu.RLock()
	known := c.byNode[node]
	c.mu.RUnlock()
	if known != nil {
		return known
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known = c.byNode[node]; known != nil {
		return known
	}
	if len(c.byNode) >= knownPeers { // those that matter are made anew by the next calls
		clear(c.byNode)
	}
	made := &circuit{CircuitBreaker: circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(openAfter).WithSuccessThreshold(1).WithDelay(probeAfter).
		OnOpen(func(circuitbreaker.StateChangedEvent) { c.notify(node, true) }).
		OnClose(func(circuitbreaker.StateChangedEvent) { c.notify(node, false) }).
		Build()}
	c.byNode[node] = made
	return made
}

// slow takes in a peer's answer and reports whether the peer is slow: another
// one of its region has meanwhile answered in half the time. When all take
// long it is their database, and no peer's fault.
func (c *circuits) slow(node string, now answered) bool {
	of := c.of(node)
	c.mu.Lock()
	defer c.mu.Unlock()
	of.answered = now
	if now.took < slowAfter {
		return false
	}
	began := now.at.Add(-now.took)
	for other, o := range c.byNode {
		if other != node && o.answered.home == now.home && o.answered.at.After(began) && o.answered.took < now.took/2 {
			return true
		}
	}
	return false
}

// usable reports whether a call to the node may be tried now.
func (c *circuits) usable(node string) bool {
	c.mu.RLock()
	known := c.byNode[node]
	c.mu.RUnlock()
	return known == nil || !known.IsOpen() || known.RemainingDelay() == 0
}

// open lists the nodes whose circuit is not closed. Those that are gone are
// forgotten: a node that comes back has another name.
func (c *circuits) open() (nodes []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, circuit := range c.byNode {
		switch {
		case !c.present(node):
			delete(c.byNode, node)
		case !circuit.IsClosed():
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}
