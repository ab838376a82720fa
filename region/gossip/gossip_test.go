package gossip

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

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
		if n.board.View().Self != n.cfg.Self.Node {
			t.Errorf("the view's own node is %q, want %q", n.board.View().Self, n.cfg.Self.Node)
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
			n.load.Store(&region.Load{InFlight: uint32(10*round + i + 1), Capacity: 1000})
		}
		for _, n := range nodes {
			for i, other := range nodes {
				want := region.Load{InFlight: uint32(10*round + i + 1), Capacity: 1000}
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
		if r := n.board.View().Regions(); len(r) != 2 {
			t.Errorf("%s sees the regions %v, want two", n.cfg.Self.Node, r)
		}
	}
	back := mustStart(t, regions[2], "n2", withSeeds(nodes[1].Addr()))
	converge(t, append(left, back)...)
}

func TestOneNodeIsRestartedAtItsAddress(t *testing.T) {
	nodes := mustCluster(t, 3)
	addr := nodes[2].Addr()
	nodes[2].kill(t)
	again := restart(t, nodes[2].cfg.Self.Region, "n2", addr, withSeeds(nodes[0].Addr()))
	converge(t, nodes[0], nodes[1], again)
}

func TestAllNodesAreRestartedAtTheirAddresses(t *testing.T) {
	nodes := mustCluster(t, 4)
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr())
	}
	for _, n := range nodes {
		n.kill(t)
	}
	again := make([]*testNode, len(nodes))
	var wg sync.WaitGroup
	for i := range again {
		wg.Go(func() {
			again[i] = restart(t, nodes[i].cfg.Self.Region, fmt.Sprint("n", i), addrs[i], withSeeds(addrs...))
		})
	}
	wg.Wait()
	if !t.Failed() {
		converge(t, again...)
	}
}

// restart starts a node on an address that was just given up. The kernel may
// lend the port to a connection for a moment.
func restart(t *testing.T, r region.Name, host, addr string, opts ...option) (n *testNode) {
	opts = append(opts, withConfig(func(c *Config) { c.Addr = addr }))
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		n = mustNew(t, r, host, opts...)
		err := n.Start(context.Background())
		if err == nil {
			return n
		}
		if time.Now().After(deadline) {
			t.Errorf("Start on %s: %v", addr, err)
			return n
		}
	}
}

func TestSeedsMayBeNames(t *testing.T) {
	first := mustStart(t, "us-east", "a")
	_, port, err := net.SplitHostPort(first.Addr())
	if err != nil {
		t.Fatal(err)
	}
	second := mustStart(t, "eu-west", "b", withSeeds("no-such-host.invalid:7946", "localhost:"+port))
	converge(t, first, second)
}

func TestLifeCycle(t *testing.T) {
	t.Run("close before start", func(t *testing.T) {
		n := mustNew(t, "us-east", "a")
		if err := n.Leave(context.Background()); err != nil {
			t.Errorf("Leave: %v", err)
		}
		for range 2 {
			if err := n.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if err := n.Start(context.Background()); err == nil {
			t.Error("Start after Close is accepted")
		}
	})
	t.Run("close twice", func(t *testing.T) {
		n := mustStart(t, "us-east", "a")
		if err := n.Start(context.Background()); err == nil {
			t.Error("a second Start is accepted")
		}
		for range 2 {
			if err := n.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if err := n.Leave(context.Background()); err != nil {
			t.Errorf("Leave after Close: %v", err)
		}
		n.SetState(region.Ready)
		n.BroadcastCompany("acme", 1)
	})
	t.Run("address in use", func(t *testing.T) {
		n := mustStart(t, "us-east", "a")
		second := mustNew(t, "us-east", "b", withConfig(func(c *Config) { c.Addr = n.Addr() }))
		if err := second.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "Addr "+n.Addr()) {
			t.Errorf("Start on a used address: %v, want an error that names it", err)
		}
	})
	t.Run("leave of the only node", func(t *testing.T) {
		n := mustStart(t, "us-east", "a")
		if err := n.Leave(context.Background()); err != nil {
			t.Errorf("Leave: %v", err)
		}
	})
}

// A seed that accepts and never answers must neither hold up the start for
// longer than it may take, nor the stop.
func TestASilentSeedHoldsNobodyUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	p := fast()
	p.firstJoin = 300 * time.Millisecond
	p.tune = func(c *memberlist.Config) { c.TCPTimeout = time.Hour } // only Close can end the wait
	n := mustNew(t, "us-east", "a", withSeeds(silent.Addr().String()), withPace(p))
	began := time.Now()
	if err := n.Start(context.Background()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	if took := time.Since(began); took < p.firstJoin {
		t.Errorf("Start took %s, want it to try for %s", took, p.firstJoin)
	}
	inTime(t, "Close", func() { n.kill(t) })
}

func TestStartEndsWithItsContext(t *testing.T) {
	p := fast()
	p.firstJoin = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// Nobody listens on port 1.
	n := mustNew(t, "us-east", "a", withSeeds("127.0.0.1:1"), withPace(p))
	inTime(t, "Start", func() {
		if err := n.Start(ctx); err != nil {
			t.Errorf("Start: %v", err)
		}
	})
}

func TestStartDoesNotWaitForItself(t *testing.T) {
	p := fast()
	p.firstJoin = time.Hour
	first := mustStart(t, "us-east", "a", withPace(p)) // without seeds
	addr := first.Addr()
	first.kill(t)
	inTime(t, "Start", func() { restart(t, "us-east", "a", addr, withSeeds(addr), withPace(p)) })
}

// inTime fails when f does not return.
func inTime(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

func TestStartStopStress(t *testing.T) {
	current := goleak.IgnoreCurrent()
	seed := mustStart(t, "us-east", "seed")
	for range 5 {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				n := mustNew(t, regions[i%3], fmt.Sprint("n", i), withSeeds(seed.Addr()))
				var busy sync.WaitGroup
				busy.Go(func() {
					for j := range 50 {
						n.SetState(region.State(j % 3))
						n.BroadcastCompany("acme", int64(j+1))
					}
				})
				if err := n.Start(context.Background()); err != nil {
					t.Errorf("Start: %v", err)
				}
				if i%2 == 0 {
					busy.Go(func() { _ = n.Leave(context.Background()) }) // may lose against Close
				}
				if err := n.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				busy.Wait()
			})
		}
		wg.Wait()
	}
	seed.kill(t)
	if err := leaks(current); err != nil {
		t.Error(err)
	}
}
