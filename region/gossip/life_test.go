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

func TestNodeRestartsAtItsAddress(t *testing.T) {
	nodes := mustCluster(t, 3)
	addr := nodes[2].Addr()
	nodes[2].kill(t)
	again := restart(t, nodes[2].cfg.Self.Region, "n2", addr, withSeeds(nodes[0].Addr()))
	converge(t, nodes[0], nodes[1], again)
}

func TestAllNodesRestartAtTheirAddresses(t *testing.T) {
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

// restart starts a node on an address that was in use until now. The kernel may give the port to a connection for a
// moment.
func restart(t *testing.T, r region.Name, host, addr string, opts ...option) (n *testNode) {
	opts = append(opts, withConfig(func(c *Config) { c.Addr = addr }))
	for deadline := time.Now().Add(waitLimit); ; time.Sleep(10 * time.Millisecond) {
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
		n.send("eu-west", 1)
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

// TestSilentSeedDelaysNothing joins a seed that accepts connections and never answers. The start must end after its
// limit, and the stop at once.
func TestSilentSeedDelaysNothing(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	p := fast()
	p.firstJoin = 300 * time.Millisecond
	p.tune = func(c *memberlist.Config) { c.TCPTimeout = time.Hour } // only Close can end the wait
	n := mustNew(t, "us-east", "a", withSeeds(silent.Addr().String()), withTimings(p))
	began := time.Now()
	if err := n.Start(context.Background()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	if took := time.Since(began); took < p.firstJoin {
		t.Errorf("Start took %s, want at least %s", took, p.firstJoin)
	}
	inTime(t, "Close", func() { n.kill(t) })
}

func TestStartEndsWithItsContext(t *testing.T) {
	p := fast()
	p.firstJoin = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	// No program listens on port 1.
	n := mustNew(t, "us-east", "a", withSeeds("127.0.0.1:1"), withTimings(p))
	inTime(t, "Start", func() {
		if err := n.Start(ctx); err != nil {
			t.Errorf("Start: %v", err)
		}
	})
}

func TestStartDoesNotWaitForItself(t *testing.T) {
	p := fast()
	p.firstJoin = time.Hour
	first := mustStart(t, "us-east", "a", withTimings(p)) // without seeds
	addr := first.Addr()
	first.kill(t)
	inTime(t, "Start", func() { restart(t, "us-east", "a", addr, withSeeds(addr), withTimings(p)) })
}

// inTime fails the test if f does not return.
func inTime(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(waitLimit):
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
						n.send("eu-west", int64(j+1))
					}
				})
				if err := n.Start(context.Background()); err != nil {
					t.Errorf("Start: %v", err)
				}
				if i%2 == 0 {
					busy.Go(func() { _ = n.Leave(context.Background()) }) // Close may come first
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

func TestAdvertisedAddressMayBeAName(t *testing.T) {
	first := mustStart(t, "us-east", "a")
	addr := first.Addr()
	first.kill(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	again := restart(t, "us-east", "a", addr, withConfig(func(c *Config) { c.Advertise = "localhost:" + port }))
	if again.Addr() != addr {
		t.Errorf("it advertises %s, want %s: the address of localhost on which it listens", again.Addr(), addr)
	}
	n := mustNew(t, "us-east", "b", withConfig(func(c *Config) { c.Advertise = "no-such-host.invalid:1" }))
	if err := n.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "Advertise no-such-host.invalid:1") {
		t.Errorf("Start says %v, want an error about Advertise", err)
	}
}
