package region

import "math/rand/v2"

// Router orders the nodes that may take a punch of a given home.
type Router struct {
	self  Member
	board *Board
	// intn is math/rand's, replaced by the tests.
	intn func(n int) int
}

// NewRouter routes for the node self by what board shows.
func NewRouter(self Member, board *Board) *Router {
	return &Router{self: self, board: board, intn: rand.IntN}
}

// Candidate is a node that may take a punch.
type Candidate struct {
	Member
	Local bool // this node: it writes through its own database gateway
}

// remoteCandidates is how many other nodes are tried before this node writes
// itself: a third one would hardly find the deadline unspent.
const remoteCandidates = 2

// Route returns whom to ask, in order, and is never empty. When this node is
// in the home region it is the only candidate. Otherwise the better of two
// random ready nodes there comes first (Mitzenmacher, "The power of two
// choices in randomized load balancing", 2001), another one second, and this
// node last: any gateway can write any row, it is only farther.
func (r *Router) Route(home Name) []Candidate {
	local := Candidate{Member: r.self, Local: true}
	if home == r.self.Region {
		return []Candidate{local}
	}
	var ready []Member
	for _, m := range r.board.View().In(home) {
		if m.State == Ready && m.Node != r.self.Node && m.PeerAddr != "" {
			ready = append(ready, m)
		}
	}
	candidates := make([]Candidate, 0, remoteCandidates+1)
	for range min(remoteCandidates, len(ready)) {
		i := r.better(ready)
		candidates = append(candidates, Candidate{Member: ready[i]})
		ready[i] = ready[len(ready)-1]
		ready = ready[:len(ready)-1]
	}
	return append(candidates, local)
}

// better returns the index of the less busy of two different random members.
func (r *Router) better(members []Member) int {
	if len(members) == 1 {
		return 0
	}
	i := r.intn(len(members))
	j := r.intn(len(members) - 1)
	if j >= i {
		j++
	}
	if pressure(members[j]) < pressure(members[i]) {
		return j
	}
	return i
}

// pressure is the share of its capacity that a member uses, scaled by its
// weight: a node of twice the weight bears twice the load at equal pressure.
func pressure(m Member) float64 {
	capacity := float64(max(m.Load.Capacity, 1)) * float64(max(m.Weight, 1))
	return (float64(m.Load.InFlight) + 1) / capacity
}
