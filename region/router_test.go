package region

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// routerOver returns a router for self whose random numbers depend on the seed alone.
func routerOver(self Member, seed uint64, members ...Member) *Router {
	cluster := &Cluster{}
	cluster.Set(NewView(self.Node, append([]Member{self}, members...)))
	r := NewRouter(self, cluster, new(Switches))
	random := rand.New(rand.NewPCG(seed, 1))
	r.intn, r.chance = random.IntN, random.Float64
	r.now = func() time.Time { return testNow }
	return r
}

// testNow is long after the zero StateAt of members without one.
var testNow = time.Unix(1_000_000, 0)

func anyNode(string) bool { return true }

func TestRouteInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := genMembers(t)
		self := Member{Node: "SELF", Region: rapid.SampledFrom(testRegions).Draw(t, "own region"), State: Ready, PeerAddr: "127.0.0.1:9"}
		home := rapid.SampledFrom(append([]Name{"nowhere"}, testRegions...)).Draw(t, "home")
		away := rapid.SampledFrom(append([]Member{{Node: "absent"}}, members...)).Draw(t, "unusable").Node
		route := routerOver(self, rapid.Uint64().Draw(t, "seed"), members...).Route(home, func(node string) bool { return node != away })

		if len(route) == 0 {
			t.Fatalf("empty route to %q", home)
		}
		if last := route[len(route)-1]; !last.Local || last.Node != self.Node {
			t.Fatalf("the last candidate is %+v, want this node", last)
		}
		if home == self.Region && len(route) != 1 {
			t.Fatalf("home is here, but the route is %+v", route)
		}
		seen := map[string]bool{}
		for _, c := range route[:len(route)-1] {
			if c.Local || c.Region != home || c.State != Ready || c.PeerAddr == "" || c.Node == self.Node || c.Node == away {
				t.Fatalf("candidate %+v, want a ready, usable other node in %q with a peer address", c, home)
			}
			if seen[c.Node] {
				t.Fatalf("%q is in the route twice", c.Node)
			}
			seen[c.Node] = true
		}
		all := 0
		for _, m := range members {
			if home != self.Region && m.Region == home && m.State == Ready && m.PeerAddr != "" && m.Node != away {
				all++
			}
		}
		// Route may skip new nodes, but never all nodes.
		if n := len(seen); n > min(all, remoteCandidates) || n < min(all, 1) {
			t.Fatalf("%d remote candidates out of %d nodes", n, all)
		}
	})
}

func TestLessBusyOfTwoComesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := func(name string) Member {
			return Member{
				Node: name, Region: "eu-west", State: Ready, PeerAddr: "127.0.0.1:1",
				Weight: rapid.Uint16Range(1, 400).Draw(t, name+" weight"),
				Load: Load{
					InFlight: rapid.Uint32Range(0, 20_000).Draw(t, name+" in flight"),
					Capacity: rapid.Uint32Range(1, 20_000).Draw(t, name+" capacity"),
				},
			}
		}
		a, b := node("a"), node("b")
		share := func(m Member) float64 {
			return float64(m.Load.InFlight+1) / float64(m.Load.Capacity) / float64(m.Weight)
		}
		if d := share(a) - share(b); -1e-12 < d && d < 1e-12 {
			t.Skip("equally busy")
		}
		want := a.Node
		if share(b) < share(a) {
			want = b.Node
		}
		route := routerOver(Member{Node: "self", Region: "us-east"}, rapid.Uint64().Draw(t, "seed"), a, b).Route("eu-west", anyNode)
		if route[0].Node != want {
			t.Fatalf("%q comes first, want %q: a has %+v at weight %d, b %+v at %d", route[0].Node, want, a.Load, a.Weight, b.Load, b.Weight)
		}
	})
}

func TestMemberOfUnknownCapacityIsNotStarved(t *testing.T) {
	silent := Member{Node: "silent", Region: "eu-west", State: Ready, PeerAddr: "127.0.0.1:1", Weight: 100}
	busy := silent
	busy.Node, busy.Load = "busy", Load{InFlight: 50, Capacity: 16384}
	route := routerOver(Member{Node: "self", Region: "us-east"}, 1, silent, busy).Route("eu-west", anyNode)
	if route[0].Node != "silent" {
		t.Fatalf("%q comes first, want the node with nothing in flight", route[0].Node)
	}
}

// shares returns how often each node comes first, over many draws.
func shares(t *testing.T, members ...Member) map[string]float64 {
	t.Helper()
	const draws = 30_000
	r := routerOver(Member{Node: "self", Region: "us-east"}, 7, members...)
	count := map[string]float64{}
	for range draws {
		count[r.Route("eu-west", anyNode)[0].Node] += 1.0 / draws
	}
	return count
}

func fleet(n int, load func(i int) Load) (members []Member) {
	for i := range n {
		members = append(members, Member{
			Node: fmt.Sprintf("n%d", i), Region: "eu-west", State: Ready, PeerAddr: "127.0.0.1:1", Weight: 100, Load: load(i),
		})
	}
	return members
}

func TestEquallyBusyNodesShareEqually(t *testing.T) {
	got := shares(t, fleet(5, func(int) Load { return Load{InFlight: 10, Capacity: 100} })...)
	for node, share := range got {
		if share < 0.19 || share > 0.21 {
			t.Errorf("%s gets %.3f of the punches, want about 0.2: %v", node, share, got)
		}
	}
}

// TestBestOfTwoAvoidsTheBusiest holds the shares of the best of two: the busiest of n nodes is never first, and the
// idlest is first whenever it is drawn, in 2/n of all draws.
func TestBestOfTwoAvoidsTheBusiest(t *testing.T) {
	got := shares(t, fleet(5, func(i int) Load { return Load{InFlight: uint32(i * 10), Capacity: 100} })...)
	if got["n4"] != 0 {
		t.Errorf("the busiest node gets %.3f of the punches, want none: %v", got["n4"], got)
	}
	if got["n0"] < 0.39 || got["n0"] > 0.41 {
		t.Errorf("the idlest node gets %.3f of the punches, want about 0.4: %v", got["n0"], got)
	}
}

// TestWeightsDivideTheLoad closes the loop: the node that comes first has one more punch in flight. In the end the
// loads must be proportional to the weights.
func TestWeightsDivideTheLoad(t *testing.T) {
	members := fleet(3, func(int) Load { return Load{Capacity: 1 << 20} })
	for i, w := range []uint16{100, 200, 300} {
		members[i].Weight = w
	}
	self := Member{Node: "self", Region: "us-east"}
	r := routerOver(self, 3, members...)
	for range 6000 {
		first := r.Route("eu-west", anyNode)[0].Node
		for i := range members {
			if members[i].Node == first {
				members[i].Load.InFlight++
			}
		}
		r.cluster.Set(NewView(self.Node, members))
	}
	for i, want := range []float64{1000, 2000, 3000} {
		if got := float64(members[i].Load.InFlight); got < want*0.95 || got > want*1.05 {
			t.Errorf("the node of weight %d holds %.0f of 6000 punches, want about %.0f", members[i].Weight, got, want)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	r := routerOver(Member{Node: "self", Region: "us-east"}, 1, fleet(10, func(i int) Load { return Load{InFlight: uint32(i), Capacity: 100} })...)
	b.ReportAllocs()
	for b.Loop() {
		r.Route("eu-west", anyNode)
	}
}

func TestUnusableNodesAreSkipped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := fleet(rapid.IntRange(0, 6).Draw(t, "nodes"), func(int) Load { return Load{} })
		bad := make(map[string]bool)
		for _, m := range members {
			bad[m.Node] = rapid.Bool().Draw(t, m.Node)
		}
		good := func(node string) bool { return !bad[node] }
		n := 0
		for _, m := range members {
			if good(m.Node) {
				n++
			}
		}
		route := routerOver(Member{Node: "self", Region: "us-east"}, rapid.Uint64().Draw(t, "seed"), members...).Route("eu-west", good)
		if len(route) != min(n, remoteCandidates)+1 {
			t.Fatalf("%d candidates, %d nodes are usable", len(route), n)
		}
		for _, c := range route {
			if bad[c.Node] {
				t.Fatalf("%s is not usable", c.Node)
			}
		}
	})
}

// TestNewNodeTakesAGrowingShare gives one of two nodes different ages and counts how often it comes first.
func TestNewNodeTakesAGrowingShare(t *testing.T) {
	now := time.Now()
	share := func(ages ...time.Duration) float64 {
		members := fleet(len(ages), func(int) Load { return Load{InFlight: 10, Capacity: 100} })
		for i, age := range ages {
			members[i].StateAt = now.Add(-age)
		}
		r := routerOver(Member{Node: "self", Region: "us-east"}, 7, members...)
		r.now, r.chance = func() time.Time { return now }, rand.New(rand.NewPCG(7, 2)).Float64
		const draws = 20_000
		first := 0.0
		for range draws {
			if r.Route("eu-west", anyNode)[0].Node == "n0" {
				first += 1.0 / draws
			}
		}
		return first
	}
	for _, c := range []struct {
		age  time.Duration
		want float64 // the share of all punches, which is half of the draws in which the node takes part
	}{
		{0, 0.05}, {3 * time.Second, 0.05}, {15 * time.Second, 0.25}, {30 * time.Second, 0.5}, {time.Hour, 0.5},
	} {
		if got := share(c.age, time.Hour); got < c.want-0.02 || got > c.want+0.02 {
			t.Errorf("%s after it became ready a node gets %.3f of the punches, want %.2f", c.age, got, c.want)
		}
	}
	if got := share(time.Second, time.Second); got < 0.48 || got > 0.52 {
		t.Errorf("of two new nodes one gets %.3f of the punches, want about 0.5", got)
	}
}
