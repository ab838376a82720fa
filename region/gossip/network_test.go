package gossip

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/punchclock/punchclock/region"
)

// network is the real network, and tests can cut connections.
type network struct {
	mu      sync.Mutex             // guards all below
	passes  func(a, b string) bool // nil if everything passes
	stopped int                    // packets that did not pass
}

// blocks reports whether nothing passes from one address to the other.
func (n *network) blocks(from, to string, packet bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.passes == nil || n.passes(from, to) {
		return false
	}
	if packet {
		n.stopped++
	}
	return true
}

func (n *network) set(passes func(a, b string) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.passes = passes
}

// cut separates the far nodes from all others.
func (n *network) cut(far ...*testNode) {
	beyond := make(map[string]bool)
	for _, f := range far {
		beyond[f.Addr()] = true
	}
	n.set(func(a, b string) bool { return beyond[a] == beyond[b] })
}

func (n *network) heal() { n.set(nil) }

func (n *network) tried() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopped
}

func (n *network) wrap(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
	ip, port, err := t.FinalAdvertiseAddr("", 0)
	if err != nil {
		panic(err)
	}
	return &cuttable{NodeAwareTransport: t, network: n, own: net.JoinHostPort(ip.String(), strconv.Itoa(port))}
}

// cuttable is a transport on a network that tests can cut.
type cuttable struct {
	memberlist.NodeAwareTransport
	network *network
	own     string
}

func (c *cuttable) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if c.network.blocks(c.own, a.Addr, true) {
		return time.Now(), nil // lost, as packets are
	}
	return c.NodeAwareTransport.WriteToAddress(b, a)
}

func (c *cuttable) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if c.network.blocks(c.own, a.Addr, false) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("cut off")}
	}
	return c.NodeAwareTransport.DialAddressTimeout(a, timeout)
}

// TestPartitionHeals runs without seeds. The nodes must find each other again through the remembered addresses, after
// memberlist has removed the other side.
func TestPartitionHeals(t *testing.T) {
	n := &network{}
	p := fast()
	p.wrap = n.wrap
	var nodes []*testNode
	for i := range 5 {
		nodes = append(nodes, mustStart(t, regions[i%3], fmt.Sprint("n", i), withTimings(p)))
	}
	for _, other := range nodes[1:] {
		if _, err := other.list.Join([]string{nodes[0].Addr()}); err != nil {
			t.Fatalf("Join: %v", err)
		}
	}
	converge(t, nodes...)

	near, far := nodes[:3], nodes[3:]
	n.cut(far...)
	converge(t, near...)
	converge(t, far...)
	last := n.tried()
	lastAt := time.Now()
	eventually(t, "no side sends packets to the other side", func() bool {
		if now := n.tried(); now != last {
			last, lastAt = now, time.Now()
		}
		return time.Since(lastAt) > time.Second
	})
	near[0].SetState(region.Ready)
	far[0].SetState(region.Draining)

	n.heal()
	converge(t, nodes...)
	eventually(t, "both sides see the new state of the other side", func() bool {
		a, _ := far[1].sees(near[0])
		b, _ := near[1].sees(far[0])
		return a.State == region.Ready && b.State == region.Draining
	})
}

// TestSeedsHealPartition covers a partition that lasts longer than removed addresses are remembered.
func TestSeedsHealPartition(t *testing.T) {
	n := &network{}
	p := fast()
	p.wrap = n.wrap
	a := mustStart(t, "us-east", "a", withTimings(p))
	b := mustStart(t, "eu-west", "b", withTimings(p), withSeeds(a.Addr()))
	converge(t, a, b)
	n.cut(b)
	converge(t, a)
	converge(t, b)
	for _, node := range []*testNode{a, b} {
		node.members.mu.Lock()
		clear(node.members.removed)
		node.members.mu.Unlock()
	}
	n.heal()
	converge(t, a, b)
}

// TestNewsIsPassedOn cuts the connection between two nodes. A third node must pass all news on.
func TestNewsIsPassedOn(t *testing.T) {
	n := &network{}
	p := blind()
	tune := p.tune
	p.wrap, p.tune = n.wrap, func(c *memberlist.Config) {
		tune(c)
		c.PushPullInterval = time.Hour
	}
	nodes := mustCluster(t, 3, withTimings(p))
	a, c := nodes[0], nodes[2]
	pair := map[string]bool{a.Addr(): true, c.Addr(): true}
	n.set(func(x, y string) bool { return !pair[x] || !pair[y] })

	a.send("eu-west", 1)
	eventually(t, "the switch arrives", func() bool { return c.has("eu-west", 1) })
	a.SetState(region.Ready)
	load := region.Load{InFlight: 7, Capacity: 77}
	a.load.Store(&load)
	eventually(t, "state and load are seen", func() bool {
		m, ok := c.sees(a)
		return ok && m.State == region.Ready && m.Load == load
	})
}

// TestJoinBringsLoads holds that a new node gets the loads by push/pull, before the other nodes send them again.
func TestJoinBringsLoads(t *testing.T) {
	p := fast()
	p.load = time.Hour // once, at the start
	a := mustStart(t, "us-east", "a", withTimings(p))
	b := mustStart(t, "eu-west", "b", withTimings(p), withSeeds(a.Addr()))
	converge(t, a, b)
	eventually(t, "the loads have left the queues", func() bool {
		return a.loads.waiting() == 0 && b.loads.waiting() == 0
	})
	c := mustStart(t, "ap-south", "c", withTimings(p), withSeeds(b.Addr()))
	eventually(t, "the loads of both are seen", func() bool {
		seenA, okA := c.sees(a)
		seenB, okB := c.sees(b)
		return okA && okB && seenA.Load.Capacity == 1000 && seenB.Load.Capacity == 1000
	})
}
