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
func agree(t *testing.T, nodes []*testNode, want ...region.Switch) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s has the switches %v", n.cfg.Self.Node, want), func() bool { return slices.Equal(n.known.All(), want) })
	}
}

// TestSwitchesConverge sends switches of one version from different nodes at the same time, as operators do through
// gossip alone while the database is away. All nodes must choose the same switch.
func TestSwitchesConverge(t *testing.T) {
	nodes := mustCluster(t, 6)
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	on := func(r region.Name, version int64, until time.Time) region.Switch {
		return region.Switch{Region: r, Level: 1, Version: version, Until: until}
	}
	soon, later := on("eu-west", 1, until), on("eu-west", 1, until.Add(time.Minute))
	restored := region.Switch{Region: "us-east", Version: 1}
	old, newer := on("ap-south", 6, time.Time{}), region.Switch{Region: "ap-south", Version: 7}
	var senders sync.WaitGroup
	degraded := region.Switch{Kind: region.Degradation, Region: "eu-west", Level: 2, Version: 1} // beside the evacuation
	for i, e := range []region.Switch{soon, restored, later, on("us-east", 1, until), newer, old, degraded} {
		senders.Go(func() {
			nodes[i%len(nodes)].known.Merge(e)
			nodes[i%len(nodes)].BroadcastSwitch(e)
		})
	}
	senders.Wait()
	agree(t, nodes, newer, later, restored, degraded)
	for _, n := range nodes {
		eventually(t, "no switch waits any more: what all nodes have is not sent forever", func() bool { return n.switches.waiting() == 0 })
	}
}

// TestSwitchesConvergeByPushPull covers switches that no broadcast carried, such as those of a partition.
func TestSwitchesConvergeByPushPull(t *testing.T) {
	nodes := mustCluster(t, 3)
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	soon := region.Switch{Region: "eu-west", Level: 1, Version: 1, Until: until}
	later := region.Switch{Region: "eu-west", Level: 1, Version: 1, Until: until.Add(time.Microsecond)}
	nodes[0].known.Merge(soon)
	nodes[2].known.Merge(later)
	agree(t, nodes, later)
}

// TestSwitchReachesNodeThatJoinsLater covers a node that starts after the switch was sent.
func TestSwitchReachesNodeThatJoinsLater(t *testing.T) {
	first := mustStart(t, "us-east", "a")
	e := region.Switch{Region: "eu-west", Level: 1, Version: 3, Until: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)}
	first.known.Merge(e) // not by gossip: the push/pull of the join must carry it
	late := mustStart(t, "ap-south", "b", withSeeds(first.Addr()))
	agree(t, []*testNode{first, late}, e)
}

// TestUnknownSwitchIsNotSent holds that a switch that was not merged is not sent: no other node could keep it.
func TestUnknownSwitchIsNotSent(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	n.BroadcastSwitch(region.Switch{Region: "eu-west", Version: 1})
	if got := n.switches.waiting(); got != 0 {
		t.Errorf("%d messages wait, want none", got)
	}
}

// TestSwitchesAreNewsOnce sends the same switches again. No node may pass on a switch that it knows.
func TestSwitchesAreNewsOnce(t *testing.T) {
	n := mustNew(t, "us-east", "a")
	e := region.Switch{Region: "eu-west", Level: 1, Version: 4}
	old := region.Switch{Region: "eu-west", Version: 3}
	degraded := region.Switch{Kind: region.Degradation, Region: "eu-west", Level: 3, Version: 1}
	for i, c := range []struct {
		e    region.Switch
		news bool
	}{{e, true}, {e, false}, {old, false}, {degraded, true}, {degraded, false}} {
		n.switches.queue.Reset()
		n.switches.queue.QueueBroadcast(sentinel)
		delegate{n.Gossip}.NotifyMsg(switchMessage(c.e))
		if got := n.switches.waiting() == 1; got != c.news {
			t.Errorf("message %d, %v: passed on is %t, want %t", i, c.e, got, c.news)
		}
	}
}
