package region

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkRouteOf300Nodes chooses a node among 100 nodes of another region, in a cluster of 300.
func BenchmarkRouteOf300Nodes(b *testing.B) {
	members := make([]Member, 300)
	for i := range members {
		members[i] = Member{
			Node: fmt.Sprintf("node-%03d", i), Region: []Name{"us-east", "eu-west", "ap-south"}[i%3], State: Ready,
			PeerAddr: fmt.Sprintf("10.0.%d.%d:7400", i/250, i%250), Weight: 100,
			Load: Load{InFlight: uint32(i), Capacity: 16384}, StateAt: time.Now().Add(-time.Hour),
		}
	}
	var cluster Cluster
	cluster.Set(NewView(members[0].Node, members))
	var none Switches
	r := NewRouter(members[0], &cluster, &none)
	usable := func(string) bool { return true }
	b.ReportAllocs()
	for b.Loop() {
		if got := r.Route("eu-west", usable); len(got) != remoteCandidates+1 {
			b.Fatalf("%d candidates, want %d", len(got), remoteCandidates+1)
		}
	}
}
