package gossip

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/punchclock/punchclock/region"
)

func TestViewsConverge(t *testing.T) {
	nodes := mustCluster(t, 5)
	for _, n := range nodes {
		for _, other := range nodes {
			m, _ := n.sees(other)
			want := other.cfg.Self
			if m.Region != want.Region || m.PeerAddr != want.PeerAddr || m.PublicURL != want.PublicURL ||
				m.Weight != want.Weight || m.State != region.Warming || m.StateAt.IsZero() {
				t.Errorf("%s sees %+v, want what the node says of itself: %+v", n.cfg.Self.Node, m, want)
			}
		}
		if n.cluster.Snapshot().Self != n.cfg.Self.Node {
			t.Errorf("the view's own node is %q, want %q", n.cluster.Snapshot().Self, n.cfg.Self.Node)
		}
	}
}

func TestAStateReachesAll(t *testing.T) {
	nodes := mustCluster(t, 3)
	for _, state := range []region.State{region.Ready, region.Draining, region.Ready} {
		nodes[0].SetState(state)
		if m, _ := nodes[0].sees(nodes[0]); m.State != state {
			t.Fatalf("the node sees itself %s right after it became %s", m.State, state)
		}
		for _, n := range nodes[1:] {
			eventually(t, fmt.Sprintf("%s sees the state %s", n.cfg.Self.Node, state), func() bool {
				m, ok := n.sees(nodes[0])
				return ok && m.State == state
			})
		}
	}
}

// Many changes at once must not pile up behind the slow updates, and the last
// one must come through.
func TestTheLastStateWins(t *testing.T) {
	nodes := mustCluster(t, 3)
	for range 200 {
		nodes[0].SetState(region.Ready)
		nodes[0].SetState(region.Draining)
	}
	nodes[0].SetState(region.Ready)
	for _, n := range nodes {
		eventually(t, "the last state is seen", func() bool {
			m, ok := n.sees(nodes[0])
			return ok && m.State == region.Ready && len(nodes[0].update) == 0
		})
	}
}

func TestAStateSetBeforeStartIsSeen(t *testing.T) {
	first := mustStart(t, "us-east", "a")
	early := mustNew(t, "eu-west", "b", withSeeds(first.Addr()))
	early.SetState(region.Ready)
	if err := early.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the state is seen", func() bool {
		m, ok := first.sees(early)
		return ok && m.State == region.Ready
	})
}

func TestLoadsReachAll(t *testing.T) {
	nodes := mustCluster(t, 5)
	for round := range 2 {
		for i, n := range nodes {
			n.load.Store(&region.Load{InFlight: uint32(10*round + i + 1), Capacity: 1000, DatabaseAway: round == 0})
		}
		for _, n := range nodes {
			for i, other := range nodes {
				want := region.Load{InFlight: uint32(10*round + i + 1), Capacity: 1000, DatabaseAway: round == 0}
				eventually(t, fmt.Sprintf("%s sees the load %+v of %s", n.cfg.Self.Node, want, other.cfg.Self.Node), func() bool {
					m, ok := n.sees(other)
					return ok && m.Load == want
				})
			}
		}
	}
}

func TestACompanyChangeReachesAllOnce(t *testing.T) {
	nodes := mustCluster(t, 5)
	for i := range 20 {
		nodes[i%5].BroadcastCompany(fmt.Sprint("company", i), 2)
	}
	nodes[0].BroadcastCompany("company0", 1) // old news
	for i := range 20 {
		company := fmt.Sprint("company", i)
		for j, n := range nodes {
			if j == i%5 {
				continue
			}
			eventually(t, fmt.Sprintf("%s hears of %s", n.cfg.Self.Node, company), func() bool {
				return len(n.changes(company)) > 0
			})
		}
	}
	for _, n := range nodes {
		eventually(t, "no change waits any more", func() bool { return n.news.outbox.waiting() == 0 })
	}
	for i := range 20 {
		for j, n := range nodes {
			want := "[2]"
			if j == i%5 {
				want = "[]" // it knows
			}
			if got := fmt.Sprint(n.changes(fmt.Sprint("company", i))); got != want {
				t.Errorf("node %d was told of company%d in the versions %s, want %s", j, i, got, want)
			}
		}
	}
}

func TestANewerVersionIsNewsAgain(t *testing.T) {
	nodes := mustCluster(t, 2)
	for v := int64(1); v <= 3; v++ {
		nodes[0].BroadcastCompany("acme", v)
		eventually(t, fmt.Sprint("version ", v, " is heard of"), func() bool {
			got := nodes[1].changes("acme")
			return len(got) > 0 && got[len(got)-1] == v
		})
	}
}

func TestWhatNobodyCouldReadIsNotSent(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	n.BroadcastCompany("", 1)
	n.BroadcastCompany("acme", 0)
	n.BroadcastCompany("acme", -1)
	n.BroadcastCompany(strings.Repeat("a", maxCompany+1), 1)
	n.BroadcastCompany("a\x00b", 1)
	if q := n.news.outbox.waiting(); q != 0 {
		t.Errorf("%d broadcasts wait, want none", q)
	}
}

// The others never probe here, so only the node's own word can tell them.
func TestALeaveIsSeen(t *testing.T) {
	nodes := mustCluster(t, 4, withPace(blind()))
	if err := nodes[3].Leave(context.Background()); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	converge(t, nodes[:3]...)
	if _, ok := nodes[3].sees(nodes[3]); !ok {
		t.Error("the node that left does not see itself any more")
	}
	if err := nodes[3].Leave(context.Background()); err != nil {
		t.Errorf("a second Leave fails: %v", err)
	}
}

func TestAKilledNodeIsSeen(t *testing.T) {
	nodes := mustCluster(t, 4)
	nodes[3].kill(t)
	converge(t, nodes[:3]...)
}

func TestALostRegionIsSeenAndComesBack(t *testing.T) {
	nodes := mustCluster(t, 6)
	left := []*testNode{nodes[0], nodes[1], nodes[3], nodes[4]}
	nodes[2].kill(t)
	nodes[5].kill(t)
	converge(t, left...)
	for _, n := range left {
		if r := n.cluster.Snapshot().Regions(); len(r) != 2 {
			t.Errorf("%s sees the regions %v, want two", n.cfg.Self.Node, r)
		}
	}
	back := mustStart(t, regions[2], "n2", withSeeds(nodes[1].Addr()))
	converge(t, append(left, back)...)
}
