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
	byName  map[Name][]Member
}

// NewView returns a view of a copy of the members.
func NewView(self string, members []Member) *View {
	v := &View{Self: self, members: slices.Clone(members), byName: make(map[Name][]Member)}
	slices.SortFunc(v.members, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	for _, m := range v.members {
		v.byName[m.Region] = append(v.byName[m.Region], m)
	}
	return v
}

// Members returns all members, sorted by node. The caller must not change the slice.
func (v *View) Members() []Member { return v.members }

// In returns the members of a region, sorted by node. The caller must not change the slice.
func (v *View) In(r Name) []Member { return v.byName[r] }

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
