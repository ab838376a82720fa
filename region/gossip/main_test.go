package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/region"
)

// patience bounds every wait of these tests. It is only spent on failure.
const patience = 30 * time.Second

// TestMain waits for goroutines longer than goleak does: memberlist stops
// some of its own without waiting, such as a probe that is under way.
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
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = goleak.Find(opts...); err == nil {
			return nil
		}
	}
	return err
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %s in vain: %s", patience, what)
}

// fast is the pace of the tests: everything as usual, only sooner.
func fast() pace {
	p := defaultPace()
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

// blind never probes: it learns of a loss only when it is told.
func blind() pace {
	p := fast()
	tune := p.tune
	p.tune = func(c *memberlist.Config) {
		tune(c)
		c.ProbeInterval = time.Hour
	}
	return p
}

// testNode is a Gossip with what belongs to it.
type testNode struct {
	*Gossip
	cluster *region.Cluster
	load    atomic.Pointer[region.Load]

	evacuations region.Evacuations

	mu      sync.Mutex // guards heardOf
	heardOf map[string][]int64
}

type option func(*Config, *Deps, *pace)

func withSeeds(seeds ...string) option { return func(c *Config, _ *Deps, _ *pace) { c.Seeds = seeds } }
func withPace(p pace) option           { return func(_ *Config, _ *Deps, own *pace) { *own = p } }
func withMeter(m metric.Meter) option  { return func(_ *Config, d *Deps, _ *pace) { d.Meter = m } }
func withConfig(f func(*Config)) option {
	return func(c *Config, _ *Deps, _ *pace) { f(c) }
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
	n := &testNode{cluster: &region.Cluster{}, heardOf: make(map[string][]int64)}
	n.load.Store(&region.Load{Capacity: 1000})
	cfg := goodConfig(r, host)
	deps := Deps{
		Cluster: n.cluster, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
		Load:           func() region.Load { return *n.load.Load() },
		CompanyChanged: n.companyChanged, Evacuations: n.evacuations.All, MergeEvacuation: n.evacuations.Merge,
	}
	p := fast()
	for _, o := range opts {
		o(&cfg, &deps, &p)
	}
	var err error
	if n.Gossip, err = New(cfg, deps); err != nil {
		t.Fatalf("New: %v", err)
	}
	n.Gossip.pace = p
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

func (n *testNode) companyChanged(company string, version int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heardOf[company] = append(n.heardOf[company], version)
}

func (n *testNode) changes(company string) []int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]int64(nil), n.heardOf[company]...)
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

// mustCluster starts n nodes over three regions that all see each other.
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

// converge waits until each of the nodes sees these and no others.
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

// kill stops a node without a word.
func (n *testNode) kill(t testing.TB) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// withProbesOf is the product's own failure detection at the speed of the
// tests in all else.
func withProbesOf(tune func(*memberlist.Config)) func(*memberlist.Config) {
	return func(c *memberlist.Config) {
		interval, timeout := c.ProbeInterval, c.ProbeTimeout
		tune(c)
		c.ProbeInterval, c.ProbeTimeout = interval, timeout
	}
}
