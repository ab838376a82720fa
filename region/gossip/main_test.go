package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/region"
)

// waitLimit is the limit of every wait in these tests. A test that passes never needs it.
const waitLimit = 60 * time.Second

// TestMain looks for goroutines longer than goleak does. memberlist does not wait for some of its own, such as a probe
// in progress.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := leaks(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func leaks(opts ...goleak.Option) error {
	var err error
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		if err = goleak.Find(opts...); err == nil {
			return nil
		}
	}
	return err
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not so after %s: %s", waitLimit, what)
}

// fast returns the timings of the tests: the usual ones, but shorter.
func fast() timings {
	p := defaultTimings()
	p.load, p.view, p.keys = 50*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond
	p.rejoin, p.rejoinRetry, p.firstJoin = 200*time.Millisecond, 50*time.Millisecond, 5*time.Second
	p.tune = func(c *memberlist.Config) {
		c.ProbeInterval, c.ProbeTimeout = 200*time.Millisecond, 80*time.Millisecond
		c.GossipInterval = 20 * time.Millisecond
		c.PushPullInterval = time.Second
		c.GossipToTheDeadTime = time.Second
		c.TCPTimeout = time.Second
	}
	return p
}

// blind returns timings without probes: a node detects no loss by itself.
func blind() timings {
	p := fast()
	tune := p.tune
	p.tune = func(c *memberlist.Config) {
		tune(c)
		c.ProbeInterval = time.Hour
	}
	return p
}

// testNode is a Gossip and its data.
type testNode struct {
	*Gossip
	cluster *region.Cluster
	load    atomic.Pointer[region.Load]
	known   region.Switches
}

type option func(*Config, *Deps, *timings)

func withSeeds(seeds ...string) option {
	return func(c *Config, _ *Deps, _ *timings) { c.Seeds = seeds }
}
func withTimings(p timings) option    { return func(_ *Config, _ *Deps, own *timings) { *own = p } }
func withMeter(m metric.Meter) option { return func(_ *Config, d *Deps, _ *timings) { d.Meter = m } }
func withConfig(f func(*Config)) option {
	return func(c *Config, _ *Deps, _ *timings) { f(c) }
}

func goodConfig(r region.Name, host string) Config {
	return Config{
		Self: region.Member{
			Node: NodeName(string(r), host), Region: r, Weight: 100,
			PeerAddr: "127.0.0.1:7400", PublicURL: "https://" + host + ".example",
		},
		Addr: "127.0.0.1:0", Label: "test",
	}
}

func mustNew(t testing.TB, r region.Name, host string, opts ...option) *testNode {
	t.Helper()
	n := &testNode{cluster: &region.Cluster{}}
	n.load.Store(&region.Load{Capacity: 1000})
	cfg := goodConfig(r, host)
	deps := Deps{
		Cluster: n.cluster, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
		Load:     func() region.Load { return *n.load.Load() },
		Switches: n.known.All, MergeSwitch: n.known.Merge,
	}
	p := fast()
	for _, o := range opts {
		o(&cfg, &deps, &p)
	}
	var err error
	if n.Gossip, err = New(cfg, deps); err != nil {
		t.Fatalf("New: %v", err)
	}
	n.timings = p
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("Close of %s: %v", host, err)
		}
	})
	return n
}

func mustStart(t testing.TB, r region.Name, host string, opts ...option) *testNode {
	t.Helper()
	n := mustNew(t, r, host, opts...)
	if err := n.Start(context.Background()); err != nil {
		t.Fatalf("Start of %s: %v", host, err)
	}
	return n
}

// sees returns the member as the node sees it.
func (n *testNode) sees(other *testNode) (region.Member, bool) {
	for _, m := range n.cluster.Snapshot().Members() {
		if m.Node == other.cfg.Self.Node {
			return m, true
		}
	}
	return region.Member{}, false
}

var regions = []region.Name{"us-east", "eu-west", "ap-south"}

// mustCluster starts n nodes in three regions and waits until each of them sees all others.
func mustCluster(t testing.TB, n int, opts ...option) []*testNode {
	t.Helper()
	first := mustStart(t, regions[0], "n0", opts...)
	nodes := []*testNode{first}
	for i := 1; i < n; i++ {
		nodes = append(nodes, mustStart(t, regions[i%len(regions)], fmt.Sprint("n", i),
			append([]option{withSeeds(first.Addr())}, opts...)...))
	}
	converge(t, nodes...)
	return nodes
}

// converge waits until each of the nodes sees exactly these nodes.
func converge(t testing.TB, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s sees %d nodes, it sees %v", n.cfg.Self.Node, len(nodes), n.cluster.Snapshot().Members()), func() bool {
			if len(n.cluster.Snapshot().Members()) != len(nodes) {
				return false
			}
			for _, other := range nodes {
				if _, ok := n.sees(other); !ok {
					return false
				}
			}
			return true
		})
	}
}

// send merges a switch of the region with this version, and sends it to the other nodes.
func (n *testNode) send(r string, version int64) {
	e := region.Switch{Region: region.Name(r), Level: 1, Version: version}
	n.known.Merge(e)
	n.BroadcastSwitch(e)
}

// has reports whether the node has the switch of the region with this version.
func (n *testNode) has(r string, version int64) bool {
	return slices.Contains(n.known.All(), region.Switch{Region: region.Name(r), Level: 1, Version: version})
}

// kill stops a node without an announcement.
func (n *testNode) kill(t testing.TB) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// withProbesOf returns tune with the product's own failure detection.
func withProbesOf(tune func(*memberlist.Config)) func(*memberlist.Config) {
	return func(c *memberlist.Config) {
		interval, timeout := c.ProbeInterval, c.ProbeTimeout
		tune(c)
		c.ProbeInterval, c.ProbeTimeout = interval, timeout
	}
}
