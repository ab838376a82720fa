package region

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// State is what a node says of itself.
type State uint8

// The states of a node, in the order of its life.
const (
	Warming  State = iota // started, not yet able to take punches
	Ready                 // takes punches
	Draining              // finishes what it has, takes no more
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

// Load is how busy a node was when it last said so.
type Load struct {
	InFlight uint32 // punches accepted and not yet answered
	Capacity uint32 // punches it means to hold at most; 0 when not known
	// DatabaseAway says that its database has not answered it for a while.
	DatabaseAway bool
	// HomeStuck says that it commits nothing to its own region, though it tries.
	HomeStuck bool
}

// Member is a node as this node sees it.
type Member struct {
	Node      string // unique per process start
	Region    Name
	State     State
	PeerAddr  string // host:port of its peer RPC
	PublicURL string // base URL of its public API, may be empty
	// PublicAddrs are the addresses at which clients reach it or its balancer,
	// as DNS answers them. Nobody changes the slice.
	PublicAddrs []netip.Addr
	Weight      uint16 // relative capability, 100 is an ordinary node
	Load        Load
	StateAt     time.Time // when this node first saw it in State
}

// View is what this node believes about the cluster at one moment. It is
// immutable: a change makes a new View.
type View struct {
	Self    string
	members []Member // sorted by Node
	byName  map[Name][]Member
}

// NewView makes a view of the given members; it keeps its own copy.
func NewView(self string, members []Member) *View {
	v := &View{Self: self, members: slices.Clone(members), byName: make(map[Name][]Member)}
	slices.SortFunc(v.members, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	for _, m := range v.members {
		v.byName[m.Region] = append(v.byName[m.Region], m)
	}
	return v
}

// Members returns all members, sorted by node. The caller must not change it.
func (v *View) Members() []Member { return v.members }

// In returns the members in a region, sorted by node. The caller must not
// change it.
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

// Board holds the current View. Readers load it without a lock; its one writer
// swaps in a new one. The zero Board holds an empty view.
type Board struct{ current atomic.Pointer[View] }

// View returns the current view, never nil.
func (b *Board) View() *View {
	if v := b.current.Load(); v != nil {
		return v
	}
	return &View{}
}

// Show makes v the current view.
func (b *Board) Show(v *View) { b.current.Store(v) }
