package region

import (
	"math/rand/v2"
	"time"
)

// Router orders the nodes that may take a punch for a home region.
type Router struct {
	self        Member
	local       []Candidate // this node alone, made once
	cluster     *Cluster
	evacuations *Evacuations
	// Tests replace the clock and the random numbers.
	now    func() time.Time
	intn   func(n int) int
	chance func() float64
}

// NewRouter returns a Router for the node self. It never chooses a node of an evacuated region.
func NewRouter(self Member, cluster *Cluster, evacuations *Evacuations) *Router {
	return &Router{
		self: self, local: []Candidate{{Member: self, Local: true}}, cluster: cluster, evacuations: evacuations,
		now: time.Now, intn: rand.IntN, chance: rand.Float64,
	}
}

// Candidate is a node that may take a punch.
type Candidate struct {
	Member
	Local bool // this node, which writes through its own database gateway
}

const (
	// remoteCandidates is the number of other nodes that are tried before this node writes itself. Little of the
	// deadline would be left for a third node.
	remoteCandidates = 2
	// rampFor is how long the share of a node that became ready grows. Meanwhile its caches fill, its connections open
	// and its code warms up.
	rampFor = 30 * time.Second
	// rampFrom is the share at the beginning. With none at all a node would not warm up.
	rampFrom = 0.1
)

// Local reports whether this node itself is the first candidate of Route. Every punch asks it, so it allocates nothing.
func (r *Router) Local(home Name, usable func(node string) bool) bool {
	if r.onlyHere(home) {
		return true
	}
	members := r.cluster.Snapshot().In(home)
	for i := range members {
		if r.mayAsk(&members[i], usable) {
			return false
		}
	}
	return true
}

// onlyHere reports whether no other node may be asked. The nodes of an evacuated region report Draining, but a moment
// later than the switch arrives.
func (r *Router) onlyHere(home Name) bool {
	return home == r.self.Region || r.evacuations.Evacuated(home, r.now())
}

func (r *Router) mayAsk(m *Member, usable func(node string) bool) bool {
	return m.State == Ready && m.Node != r.self.Node && m.PeerAddr != "" && usable(m.Node)
}

// Route returns the nodes to ask, in order. The list is never empty, and this node is always the last candidate: any
// gateway can write any row, but this node is farther away. In the home region this node is the only candidate. The
// caller must not change the list.
//
// The better of two random ready nodes of the home comes first, and another ready node second. Route skips nodes for
// which usable returns false. The rule is from Mitzenmacher, "The power of two choices in randomized load balancing",
// 2001.
func (r *Router) Route(home Name, usable func(node string) bool) []Candidate {
	if r.onlyHere(home) {
		return r.local
	}
	members := r.cluster.Snapshot().In(home)
	var scratch [32]int // stays on the stack for a region of a usual size
	ready := scratch[:0]
	for i := range members {
		if r.mayAsk(&members[i], usable) {
			ready = append(ready, i)
		}
	}
	ready = r.ramp(members, ready)
	candidates := make([]Candidate, 0, remoteCandidates+1)
	for range min(remoteCandidates, len(ready)) {
		i := r.better(members, ready)
		candidates = append(candidates, Candidate{Member: members[ready[i]]})
		ready[i] = ready[len(ready)-1]
		ready = ready[:len(ready)-1]
	}
	return append(candidates, r.local...)
}

// ramp leaves out some nodes that became ready a short time ago. The chance depends on a node's age relative to the
// oldest node. If all nodes are new, ramp leaves out none.
func (r *Router) ramp(members []Member, ready []int) []int {
	now, most := r.now(), 0.0
	share := func(i int) float64 {
		return min(max(now.Sub(members[i].StateAt).Seconds()/rampFor.Seconds(), rampFrom), 1)
	}
	for _, i := range ready {
		most = max(most, share(i))
	}
	kept := ready[:0]
	for _, i := range ready {
		if s := share(i); s == most || r.chance() < s/most {
			kept = append(kept, i)
		}
	}
	return kept
}

// better draws two different ready members and returns the index of the less busy one.
func (r *Router) better(members []Member, ready []int) int {
	if len(ready) == 1 {
		return 0
	}
	i := r.intn(len(ready))
	j := r.intn(len(ready) - 1)
	if j >= i {
		j++
	}
	if lessBusy(&members[ready[j]], &members[ready[i]]) {
		return j
	}
	return i
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
