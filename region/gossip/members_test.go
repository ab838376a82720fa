package gossip

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/region"
)

// membersAt returns members with a clock that the test sets.
func membersAt(now *time.Time) (*members, *region.Cluster) {
	cluster := &region.Cluster{}
	r := newMembers(region.Member{Node: "self", Region: "us-east"}, cluster)
	r.now = func() time.Time { return *now }
	return r, cluster
}

func shown(t testing.TB, b *region.Cluster, node string) region.Member {
	t.Helper()
	for _, m := range b.Snapshot().Members() {
		if m.Node == node {
			return m
		}
	}
	t.Fatalf("the view does not show %s", node)
	return region.Member{}
}

func TestStateAtIsTheFirstSight(t *testing.T) {
	now := time.Unix(1000, 0)
	r, cluster := membersAt(&now)
	at := func(seconds int64, node string, m region.Member, want int64) {
		t.Helper()
		now = time.Unix(seconds, 0)
		r.put(node, "10.0.0.1:1", m, true)
		if got := shown(t, cluster, node).StateAt; got.Unix() != want {
			t.Errorf("at %d: StateAt is %d, want %d", seconds, got.Unix(), want)
		}
	}
	at(1001, "a", region.Member{Region: "eu-west"}, 1001)
	at(1002, "a", region.Member{Region: "eu-west", Weight: 7}, 1001)
	at(1003, "a", region.Member{Region: "eu-west", State: region.Ready}, 1003)
	at(1004, "a", region.Member{Region: "eu-west", State: region.Ready}, 1003)
	r.remove("a")
	at(1005, "a", region.Member{Region: "eu-west", State: region.Ready}, 1005)

	now = time.Unix(1006, 0)
	if !r.setState(region.Ready) || r.setState(region.Ready) {
		t.Error("only the first of two equal states is a change")
	}
	if got := shown(t, cluster, "self"); got.State != region.Ready || got.StateAt.Unix() != 1006 {
		t.Errorf("this node is %s since %d, want ready since 1006", got.State, got.StateAt.Unix())
	}
}

func TestOthersCannotChangeThisNode(t *testing.T) {
	now := time.Unix(1000, 0)
	r, cluster := membersAt(&now)
	r.put("self", "10.0.0.1:1", region.Member{Region: "eu-west", State: region.Draining}, true)
	r.setLoad(encodeLoad(nodeID("self"), 99, region.Load{InFlight: 7}))
	r.remove("self")
	r.publishLoads()
	if m := shown(t, cluster, "self"); m.Region != "us-east" || m.State != region.Warming || m.Load != (region.Load{}) {
		t.Errorf("this node is %+v, want it unchanged", m)
	}
}

func TestTheNewestLoadWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		r, cluster := membersAt(&now)
		r.put("a", "10.0.0.1:1", region.Member{Region: "eu-west"}, true)
		newest := uint64(0)
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			seq := rapid.Uint64Range(1, 12).Draw(t, "seq")
			isNew := r.setLoad(encodeLoad(nodeID("a"), seq, region.Load{InFlight: uint32(seq), Capacity: 99}))
			if isNew != (seq > newest) {
				t.Fatalf("sequence %d after %d: new is %v", seq, newest, isNew)
			}
			newest = max(newest, seq)
		}
		r.publishLoads()
		var got region.Load
		for _, m := range cluster.Snapshot().In("eu-west") {
			got = m.Load
		}
		if got.InFlight != uint32(newest) {
			t.Fatalf("the load shown is %+v, want that of sequence %d", got, newest)
		}
	})
}

// TestLoadsWaitForAView holds that a state makes a new view at once, that loads wait, and that a state keeps the load.
func TestLoadsWaitForAView(t *testing.T) {
	now := time.Unix(1000, 0)
	r, cluster := membersAt(&now)
	r.put("a", "10.0.0.1:1", region.Member{Region: "eu-west"}, true)
	load := region.Load{InFlight: 5, Capacity: 10}
	before := cluster.Snapshot()
	r.setLoad(encodeLoad(nodeID("a"), 1, load))
	if cluster.Snapshot() != before || len(r.dirty) != 1 {
		t.Error("a load made a view at once, want the load to wait")
	}
	r.put("a", "10.0.0.1:1", region.Member{Region: "eu-west", State: region.Ready}, true)
	if m := shown(t, cluster, "a"); m.State != region.Ready || m.Load != load {
		t.Errorf("after a state the member is %+v, want it ready with its load", m)
	}
	<-r.dirty
	r.setLoad(encodeLoad(nodeID("a"), 2, load))
	if len(r.dirty) != 0 {
		t.Error("an equal load asks for a view")
	}
	if r.setLoad(encodeLoad(nodeID("unknown"), 1, load)) {
		t.Error("the load of an unknown node is news")
	}
}

func TestRemovedNodesAreRemembered(t *testing.T) {
	now := time.Unix(1000, 0)
	r, _ := membersAt(&now)
	lose := func(node, addr string, state region.State) {
		r.put(node, addr, region.Member{Region: "eu-west", State: state}, true)
		r.remove(node)
	}
	lose("a", "10.0.0.1:1", region.Ready)
	lose("b", "10.0.0.2:1", region.Draining) // it announced that it leaves
	if got := fmt.Sprint(r.remembered()); got != "[10.0.0.1:1]" {
		t.Errorf("remembered are %s, want the node that did not announce it", got)
	}
	r.put("a2", "10.0.0.1:1", region.Member{Region: "eu-west"}, true)
	if got := r.remembered(); len(got) != 0 {
		t.Errorf("remembered is %s, where a node is", got)
	}
	r.remove("a2")
	now = now.Add(rememberFor + time.Second)
	if got := r.remembered(); len(got) != 0 {
		t.Errorf("remembered are %s after %s, want none", got, rememberFor)
	}
	for i := range 3 * rememberNodes {
		now = now.Add(time.Second)
		lose(fmt.Sprint("n", i), fmt.Sprint("10.0.1.1:", i), region.Ready)
	}
	got := r.remembered()
	if len(got) != rememberNodes || len(r.removed) != rememberNodes {
		t.Errorf("%d addresses are remembered, want %d", len(got), rememberNodes)
	}
	for _, a := range got {
		var i int
		if _, err := fmt.Sscanf(a, "10.0.1.1:%d", &i); err != nil || i < 2*rememberNodes {
			t.Errorf("%s is remembered, want only the newest addresses", a)
		}
	}
}
