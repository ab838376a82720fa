package region

import (
	"math/rand/v2"
	"time"
)

// Router orders the nodes that may take a punch of a given home.
type Router struct {
	self        Member
	board       *Board
	evacuations *Evacuations
	// The clock and math/rand's, replaced by the tests.
	now    func() time.Time
	intn   func(n int) int
	chance func() float64
}

// NewRouter routes for the node self by what board shows, and to no node of a
// region that is switched off.
func NewRouter(self Member, board *Board, evacuations *Evacuations) *Router {
	return &Router{self: self, board: board, evacuations: evacuations, now: time.Now, intn: rand.IntN, chance: rand.Float64}
}

// Candidate is a node that may take a punch.
type Candidate struct {
	Member
	Local bool // this node: it writes through its own database gateway
}

const (
	// remoteCandidates is how many other nodes are tried before this node
	// writes itself: a third one would hardly find the deadline unspent.
	remoteCandidates = 2
	// rampFor is how long a node that has just become ready takes a growing
	// share: its caches fill, its connections open and its code warms up
	// while others bear the rush.
	rampFor = 30 * time.Second
	// rampFrom is the share it begins with, enough to warm up at all.
	rampFrom = 0.1
)

// Route returns whom to ask, in order, and is never empty. When this node is
// in the home region it is the only candidate. Otherwise the better of two
// random ready nodes there comes first (Mitzenmacher, "The power of two
// choices in randomized load balancing", 2001), another one second, and this
// node last: any gateway can write any row, it is only farther. Nodes for
// which usable is false are passed over.
func (r *Router) Route(home Name, usable func(node string) bool) []Candidate {
	local := Candidate{Member: r.self, Local: true}
	// The nodes of an evacuated region say so themselves, but a moment later.
	if home == r.self.Region || r.evacuations.Evacuated(home, r.now()) {
		return []Candidate{local}
	}
	members := r.board.View().In(home)
	var scratch [32]int // on the stack for any region of a usual size
	ready := scratch[:0]
	for i := range members {
		if m := &members[i]; m.State == Ready && m.Node != r.self.Node && m.PeerAddr != "" && usable(m.Node) {
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
	return append(candidates, local)
}

// ramp leaves out nodes that have not been ready for long, the more often the
// newer they are relative to the others: where all are new, nobody is left out.
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

// better returns which of the ready members to take: the less busy of two
// different random ones.
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

// lessBusy compares the shares of their capacity that two members use, scaled
// by their weights: a node of twice the weight bears twice the load at equal
// pressure. Where one capacity is not known both are left out, or a node that
// has not said it yet would never be asked.
func lessBusy(a, b *Member) bool {
	if a.Load.Capacity == 0 || b.Load.Capacity == 0 {
		return pressure(a, 1) < pressure(b, 1)
	}
	return pressure(a, a.Load.Capacity) < pressure(b, b.Load.Capacity)
}

func pressure(m *Member, capacity uint32) float64 {
	// One more punch than it holds: at rest, too, the weights decide.
	return (float64(m.Load.InFlight) + 1) / (float64(capacity) * float64(max(m.Weight, 1)))
}
