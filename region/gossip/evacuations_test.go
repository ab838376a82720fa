package gossip

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/region"
)

// agree waits until every node has exactly these switches.
func agree(t *testing.T, nodes []*testNode, want ...region.Evacuation) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s has the switches %v", n.cfg.Self.Node, want), func() bool { return slices.Equal(n.known.All(), want) })
	}
}

// TestEvacuationsConverge sends switches of one version from different nodes at the same time, as operators do through
// gossip alone while the database is away. All nodes must choose the same switch.
func TestEvacuationsConverge(t *testing.T) {
	nodes := mustCluster(t, 6)
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	on := func(r region.Name, version int64, until time.Time) region.Evacuation {
		return region.Evacuation{Region: r, On: true, Version: version, Until: until}
	}
	soon, later := on("eu-west", 1, until), on("eu-west", 1, until.Add(time.Minute))
	restored := region.Evacuation{Region: "us-east", Version: 1}
	old, newer := on("ap-south", 6, time.Time{}), region.Evacuation{Region: "ap-south", Version: 7}
	var senders sync.WaitGroup
	for i, e := range []region.Evacuation{soon, restored, later, on("us-east", 1, until), newer, old} {
		senders.Go(func() {
			nodes[i].known.Merge(e)
			nodes[i].BroadcastEvacuation(e)
		})
	}
	senders.Wait()
	agree(t, nodes, newer, later, restored)
	for _, n := range nodes {
		eventually(t, "no switch waits any more: what all nodes have is not sent forever", func() bool { return n.evacuations.waiting() == 0 })
	}
}

// TestEvacuationsConvergeByPushPull covers switches that no broadcast carried, such as those of a partition.
func TestEvacuationsConvergeByPushPull(t *testing.T) {
	nodes := mustCluster(t, 3)
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	soon := region.Evacuation{Region: "eu-west", On: true, Version: 1, Until: until}
	later := region.Evacuation{Region: "eu-west", On: true, Version: 1, Until: until.Add(time.Microsecond)}
	nodes[0].known.Merge(soon)
	nodes[2].known.Merge(later)
	agree(t, nodes, later)
}

// TestEvacuationReachesNodeThatJoinsLater covers a node that starts after the switch was sent.
func TestEvacuationReachesNodeThatJoinsLater(t *testing.T) {
	first := mustStart(t, "us-east", "a")
	e := region.Evacuation{Region: "eu-west", On: true, Version: 3, Until: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)}
	first.known.Merge(e) // not by gossip: the push/pull of the join must carry it
	late := mustStart(t, "ap-south", "b", withSeeds(first.Addr()))
	agree(t, []*testNode{first, late}, e)
}

// TestUnknownEvacuationIsNotSent holds that a switch that was not merged is not sent: no other node could keep it.
func TestUnknownEvacuationIsNotSent(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	n.BroadcastEvacuation(region.Evacuation{Region: "eu-west", Version: 1})
	if got := n.evacuations.waiting(); got != 0 {
		t.Errorf("%d messages wait, want none", got)
	}
}

// TestEvacuationsAreNewsOnce sends the same switches again. No node may pass on a switch that it knows.
func TestEvacuationsAreNewsOnce(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	e := region.Evacuation{Region: "eu-west", On: true, Version: 4}
	old := region.Evacuation{Region: "eu-west", Version: 3}
	for i, c := range []struct {
		e    region.Evacuation
		news bool
	}{{e, true}, {e, false}, {old, false}} {
		n.evacuations.queue.Reset()
		n.evacuations.queue.QueueBroadcast(sentinel)
		delegate{n.Gossip}.NotifyMsg(evacuationMessage(c.e))
		if got := n.evacuations.waiting() == 1; got != c.news {
			t.Errorf("message %d, %v: passed on is %t, want %t", i, c.e, got, c.news)
		}
	}
}
