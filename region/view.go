package region

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// State is the state that a node reports of itself.
type State uint8

// The states of a node, in the order of its life.
const (
	Warming  State = iota // not ready: it starts, its clock is wrong, or it cannot reach the database. Peers send it nothing
	Ready                 // accepts punches
	Draining              // finishes its accepted punches and accepts no more
)

func (s State) String() string {
	switch s {
	case Ready:
		return "ready"
	case Draining:
		return "draining"
	default:
		return "warming"
	}
}

// Load is how busy a node was at its last report.
type Load struct {
	InFlight uint32 // accepted punches without an answer yet
	Capacity uint32 // --queue-max-items, the bound of one queue; only the ratio matters. 0 when not known
	// DatabaseAway is true while the database has not answered the node for some seconds.
	DatabaseAway bool
	// HomeStuck is true while every write to the node's own region fails.
	HomeStuck bool
	// Level is the node's level of degradation.
	Level uint8
}

// Member is a node as this node sees it.
type Member struct {
	Node      string // unique for each start of the process
	Region    Name
	State     State
	PeerAddr  string // host:port of its peer RPC
	PublicURL string // base URL of its public API, may be empty
	// PublicAddrs are the addresses of the node or its load balancer for clients, as DNS answers them. The slice must
	// not be changed.
	PublicAddrs []netip.Addr
	Weight      uint16 // relative capacity; an ordinary node has 100
	Load        Load
	StateAt     time.Time // when this node first saw the member in State
}

// View is this node's knowledge of the cluster at one moment. It is immutable: a change makes a new View.
type View struct {
	Self    string
	members []Member // sorted by Node
	byName  map[Name]*regionView
}

// regionView is a region's part of a view. A view changes a few times in a second, and a busy node routes thousands of
// punches meanwhile. So the view prepares the choice of a node.
type regionView struct {
	members []Member  // sorted by Node
	ready   []*Member // the nodes that take forwarded punches: ready, with an address, and not this node
	oldest  time.Time // when the first of ready became ready
}

// NewView returns a view of a copy of the members.
func NewView(self string, members []Member) *View {
	sorted := make([]*Member, len(members)) // moving pointers costs less than moving members
	for i := range members {
		sorted[i] = &members[i]
	}
	slices.SortFunc(sorted, func(a, b *Member) int { return strings.Compare(a.Node, b.Node) })
	v := &View{Self: self, members: make([]Member, len(members)), byName: make(map[Name]*regionView)}
	counts := make(map[Name]int)
	for i, m := range sorted {
		v.members[i] = *m
		counts[m.Region]++
	}
	for i := range v.members {
		v.add(&v.members[i], counts)
	}
	return v
}

// add puts a member into its region's part. The counts of members give each part its size at once.
func (v *View) add(m *Member, counts map[Name]int) {
	part := v.byName[m.Region]
	if part == nil {
		n := counts[m.Region]
		part = &regionView{members: make([]Member, 0, n), ready: make([]*Member, 0, n)}
		v.byName[m.Region] = part
	}
	part.members = append(part.members, *m)
	if m.State != Ready || m.PeerAddr == "" || m.Node == v.Self {
		return
	}
	if len(part.ready) == 0 || m.StateAt.Before(part.oldest) {
		part.oldest = m.StateAt
	}
	part.ready = append(part.ready, m)
}

// Members returns all members, sorted by node. The caller must not change the slice.
func (v *View) Members() []Member { return v.members }

// In returns the members of a region, sorted by node. The caller must not change the slice.
func (v *View) In(r Name) []Member {
	if part := v.byName[r]; part != nil {
		return part.members
	}
	return nil
}

// ready returns the nodes of a region that take forwarded punches, and when the first of them became ready.
func (v *View) ready(r Name) ([]*Member, time.Time) {
	if part := v.byName[r]; part != nil {
		return part.ready, part.oldest
	}
	return nil, time.Time{}
}

// Regions returns the names of all regions that have a member, sorted.
func (v *View) Regions() []Name {
	names := make([]Name, 0, len(v.byName))
	for r := range v.byName {
		names = append(names, r)
	}
	slices.Sort(names)
	return names
}

// Cluster holds the current View. Readers take no lock. Gossip is the only writer and replaces the whole view. The zero
// Cluster holds an empty view.
type Cluster struct{ current atomic.Pointer[View] }

// Snapshot returns the current view. It never returns nil.
func (c *Cluster) Snapshot() *View {
	if v := c.current.Load(); v != nil {
		return v
	}
	return &View{}
}

// Set makes v the current view.
func (c *Cluster) Set(v *View) { c.current.Store(v) }
