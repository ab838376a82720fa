package gossip

import (
	"context"
	"fmt"
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

func TestStateReachesAll(t *testing.T) {
	nodes := mustCluster(t, 3)
	for _, state := range []region.State{region.Ready, region.Draining, region.Ready} {
		nodes[0].SetState(state)
		if m, _ := nodes[0].sees(nodes[0]); m.State != state {
			t.Fatalf("the node sees itself %s right after SetState(%s)", m.State, state)
		}
		for _, n := range nodes[1:] {
			eventually(t, fmt.Sprintf("%s sees the state %s", n.cfg.Self.Node, state), func() bool {
				m, ok := n.sees(nodes[0])
				return ok && m.State == state
			})
		}
	}
}

// TestTheLastStateWins changes the state often. The changes must not wait behind slow updates, and the last state must
// arrive.
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

func TestStateSetBeforeStartIsSeen(t *testing.T) {
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

// TestLeaveIsSeen runs without probes, so that only the node's announcement can tell the others.
func TestLeaveIsSeen(t *testing.T) {
	nodes := mustCluster(t, 4, withTimings(blind()))
	if err := nodes[3].Leave(context.Background()); err != nil {
		t.Fatalf("Leave: %v", err)
	}
	converge(t, nodes[:3]...)
	if _, ok := nodes[3].sees(nodes[3]); !ok {
		t.Error("the node that left no longer sees itself")
	}
	if err := nodes[3].Leave(context.Background()); err != nil {
		t.Errorf("a second Leave fails: %v", err)
	}
}

func TestKilledNodeIsSeen(t *testing.T) {
	nodes := mustCluster(t, 4)
	nodes[3].kill(t)
	converge(t, nodes[:3]...)
}

func TestLostRegionIsSeenAndReturns(t *testing.T) {
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
