package region

import (
	"math/rand/v2"
	"time"
)

// Router orders the nodes that may take a punch for a home region.
type Router struct {
	self     Member
	local    []Candidate // this node alone, made once
	cluster  *Cluster
	switches *Switches
	// Tests replace the clock and the random numbers.
	now    func() time.Time
	intn   func(n int) int
	chance func() float64
}

// NewRouter returns a Router for the node self. It never chooses a node of an evacuated region.
func NewRouter(self Member, cluster *Cluster, switches *Switches) *Router {
	r := &Router{
		self: self, cluster: cluster, switches: switches,
		now: time.Now, intn: rand.IntN, chance: rand.Float64,
	}
	r.local = []Candidate{{Member: &r.self, Local: true}}
	return r
}

// Candidate is a node that may take a punch. The member is part of a view and must not be changed.
type Candidate struct {
	*Member
	Local bool // this node, which writes through its own database gateway
}

const (
	// remoteCandidates is the most other nodes that are tried before this node writes itself. Little of the deadline
	// would be left for a third node.
	remoteCandidates = 2
	// rampFor is how long the share of a node that became ready grows. Meanwhile its caches fill, its connections open
	// and its code warms up.
	rampFor = 30 * time.Second
	// rampFrom is the share at the beginning. With none at all a node would not warm up.
	rampFrom = 0.1
)

// Local reports whether this node itself is the first candidate of Route. Every punch asks it, so it allocates nothing.
func (r *Router) Local(home Name, usable func(node string) bool) bool {
	if r.onlyHere(home, r.now()) {
		return true
	}
	ready, _ := r.cluster.Snapshot().ready(home)
	for _, m := range ready {
		if usable(m.Node) {
			return false
		}
	}
	return true
}

// onlyHere reports whether no other node may be asked. The nodes of an evacuated region report Draining, but a moment
// later than the switch arrives.
func (r *Router) onlyHere(home Name, now time.Time) bool {
	return home == r.self.Region || r.switches.Evacuated(home, now)
}

// Route returns the nodes to ask, in order. The list is never empty, and this node is always the last candidate: any
// gateway can write any row, but this node is farther away. In the home region this node is the only candidate. The
// caller must not change the list.
//
// The better of two random ready nodes of the home comes first, and another ready node second. Route skips nodes for
// which usable returns false. The rule is from Mitzenmacher, "The power of two choices in randomized load balancing",
// 2001.
func (r *Router) Route(home Name, usable func(node string) bool) []Candidate {
	now := r.now()
	if r.onlyHere(home, now) {
		return r.local
	}
	ready, oldest := r.cluster.Snapshot().ready(home)
	list, leftOut := r.pick(draw{router: r, ready: ready, usable: usable, now: now, most: share(oldest, now)})
	if len(list) > 1 || !leftOut {
		return list
	}
	// All usable nodes are new, and the oldest node is not usable.
	most := 0.0
	for _, m := range ready {
		if usable(m.Node) {
			most = max(most, share(m.StateAt, now))
		}
	}
	list, _ = r.pick(draw{router: r, ready: ready, usable: usable, now: now, most: most})
	return list
}

// pick draws up to three nodes. The better of the first two comes first. The other one and the third compete for the
// second place.
func (r *Router) pick(d draw) (list []Candidate, leftOut bool) {
	var scratch [128]uint16 // stays on the stack for a region of a usual size
	d.left = scratch[:0]
	for i := range d.ready {
		d.left = append(d.left, uint16(i))
	}
	first, second := d.next(), d.next()
	switch {
	case first == nil:
		return r.local, d.leftOut
	case second == nil:
		return []Candidate{{Member: first}, r.local[0]}, d.leftOut
	}
	if lessBusy(second, first) {
		first, second = second, first
	}
	if third := d.next(); third != nil && lessBusy(third, second) {
		second = third
	}
	return []Candidate{{Member: first}, {Member: second}, r.local[0]}, d.leftOut
}

// draw takes random nodes from a region, each of them once. It asks usable for the drawn nodes alone. Asking for each
// node of a large region would cost far more than the rest of a decision.
type draw struct {
	router  *Router
	ready   []*Member
	usable  func(node string) bool
	now     time.Time
	most    float64 // the share of the oldest node
	left    []uint16
	leftOut bool // a node was skipped because it is new
}

// next returns nil when no node is left.
func (d *draw) next() *Member {
	for len(d.left) > 0 {
		i := 0
		if len(d.left) > 1 {
			i = d.router.intn(len(d.left))
		}
		m := d.ready[d.left[i]]
		d.left[i] = d.left[len(d.left)-1]
		d.left = d.left[:len(d.left)-1]
		if !d.usable(m.Node) {
			continue
		}
		// A node that became ready a short time ago takes part with a chance that grows with its age, relative to the
		// oldest node. If all nodes are new, all take part.
		if s := share(m.StateAt, d.now); s < d.most && d.router.chance() >= s/d.most {
			d.leftOut = true
			continue
		}
		return m
	}
	return nil
}

// share is the share of punches for a node that became ready at that time, from rampFrom to 1.
func share(readyAt, now time.Time) float64 {
	return min(max(now.Sub(readyAt).Seconds()/rampFor.Seconds(), rampFrom), 1)
}

// lessBusy compares the used shares of two members' capacity, scaled by their weights: at equal pressure a node of
// twice the weight carries twice the load. If one capacity is not known, both are ignored. Otherwise a node that has
// not reported its capacity yet would never be asked.
func lessBusy(a, b *Member) bool {
	if a.Load.Capacity == 0 || b.Load.Capacity == 0 {
		return pressure(a, 1) < pressure(b, 1)
	}
	return pressure(a, a.Load.Capacity) < pressure(b, b.Load.Capacity)
}

func pressure(m *Member, capacity uint32) float64 {
	// The added punch lets the weights decide between idle nodes, too.
	return (float64(m.Load.InFlight) + 1) / (float64(capacity) * float64(max(m.Weight, 1)))
}
