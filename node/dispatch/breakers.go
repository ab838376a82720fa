package dispatch

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/punchclock/punchclock/region"
)

const (
	// openAfter is how many calls in a row must fail. One failure may be a peer that restarts, three are not chance. A
	// frozen peer fails all calls of its connection at once.
	openAfter = 3
	// probeAfter is how long an open breaker waits until one call may try the peer again. A restart takes some seconds,
	// and a probe that fails costs its items one more candidate.
	probeAfter = 2 * time.Second
	// slowAfter is the least time of a call that may count as a failure although the peer answered. Regions are at most
	// 300 ms apart, and a commit takes little more.
	slowAfter = time.Second
	// maxBreakers bounds the memory to about 1 MB. It is many times the nodes of any cluster.
	maxBreakers = 4096
)

// breakers keeps calls away from peers that fail: one circuit breaker per peer, fed by the calls themselves. A peer's
// refusal of a punch never counts as a failure. DESIGN.md says why a home's breaker, in package batcher, differs.
type breakers struct {
	// present reports whether gossip still shows a node.
	present func(node string) bool
	notify  func(node string, open bool)

	mu     sync.RWMutex // guards byNode, and the answer of each breaker
	byNode map[string]*peerBreaker
}

// peerBreaker is the breaker of one peer, with the peer's latest answer.
type peerBreaker struct {
	circuitbreaker.CircuitBreaker[any]
	latest answer
	// fullUntil is when the peer may be asked again after it said that it is full, in nanoseconds since 1970.
	fullUntil atomic.Int64
}

// fullFor is how long a full peer is left alone. A full node's limit moves within a tenth of a second, and a call that it
// refuses costs both nodes little.
const fullFor = 200 * time.Millisecond

func (b *peerBreaker) setFull(now time.Time) { b.fullUntil.Store(now.Add(fullFor).UnixNano()) }

// answer says how long a call to a peer took: its way and its handling.
type answer struct {
	home region.Name
	at   time.Time
	took time.Duration
}

func newBreakers(present func(node string) bool, notify func(node string, open bool)) *breakers {
	return &breakers{present: present, notify: notify, byNode: make(map[string]*peerBreaker)}
}

func (bs *breakers) find(node string) *peerBreaker {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	return bs.byNode[node]
}

// of returns the node's breaker and makes it if necessary.
func (bs *breakers) of(node string) *peerBreaker {
	if known := bs.find(node); known != nil {
		return known
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if known := bs.byNode[node]; known != nil {
		return known
	}
	// A node that restarts has a new name, so the breakers of departed nodes are of no use any more.
	maps.DeleteFunc(bs.byNode, func(other string, _ *peerBreaker) bool { return !bs.present(other) })
	if len(bs.byNode) >= maxBreakers { // the next calls make the needed ones again
		clear(bs.byNode)
	}
	made := &peerBreaker{CircuitBreaker: circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(openAfter).WithSuccessThreshold(1).WithDelay(probeAfter).
		OnOpen(func(circuitbreaker.StateChangedEvent) { bs.notify(node, true) }).
		OnClose(func(circuitbreaker.StateChangedEvent) { bs.notify(node, false) }).
		Build()}
	bs.byNode[node] = made
	return made
}

// recordAnswer keeps a peer's answer and reports whether the peer is slow: another peer of its region has answered
// meanwhile in half the time. When all of them take long, the cause is their database and no peer.
func (bs *breakers) recordAnswer(node string, now answer) (slow bool) {
	breaker := bs.of(node)
	bs.mu.Lock()
	defer bs.mu.Unlock()
	breaker.latest = now
	if now.took < slowAfter {
		return false
	}
	began := now.at.Add(-now.took)
	for other, b := range bs.byNode {
		if other != node && b.latest.home == now.home && b.latest.at.After(began) && b.latest.took < now.took/2 {
			return true
		}
	}
	return false
}

// usable reports whether a call to the node may be tried now.
func (bs *breakers) usable(node string) bool {
	known := bs.find(node)
	if known == nil {
		return true
	}
	if until := known.fullUntil.Load(); until != 0 && time.Now().UnixNano() < until {
		return false
	}
	return !known.IsOpen() || known.RemainingDelay() == 0
}

// open lists the present nodes whose breaker is not closed.
func (bs *breakers) open() (nodes []string) {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	for node, breaker := range bs.byNode {
		if !breaker.IsClosed() && bs.present(node) {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}
