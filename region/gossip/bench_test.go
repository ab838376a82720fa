package gossip

import (
	"fmt"
	"testing"

	"github.com/punchclock/punchclock/region"
)

// BenchmarkApplyViewOf300Nodes applies a change of one node to the view of 300, as gossip reports it.
func BenchmarkApplyViewOf300Nodes(b *testing.B) {
	var cluster region.Cluster
	self := region.Member{Node: "node-000", Region: "us-east", State: region.Ready}
	m := newMembers(self, &cluster)
	meta := func(i int, s region.State) region.Member {
		return region.Member{
			Region: []region.Name{"us-east", "eu-west", "ap-south"}[i%3], State: s, PeerAddr: fmt.Sprintf("10.0.%d.%d:7400", i/250, i%250), Weight: 100,
		}
	}
	for i := 1; i < 300; i++ {
		m.put(fmt.Sprintf("node-%03d", i), fmt.Sprintf("10.0.%d.%d:7946", i/250, i%250), meta(i, region.Ready), true)
	}
	if n := len(cluster.Snapshot().Members()); n != 300 {
		b.Fatalf("the view has %d members, want 300", n)
	}
	states := []region.State{region.Draining, region.Ready}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		m.put("node-150", "10.0.0.150:7946", meta(150, states[i%2]), true)
		i++
	}
}
