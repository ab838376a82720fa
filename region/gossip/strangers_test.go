package gossip

import (
	"context"
	"io"
	"log"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/punchclock/punchclock/region"
)

// counts reads the sum of a counter, by the value of its attribute.
func counts(t testing.TB, reader *sdkmetric.ManualReader, name, key string) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		t.Fatalf("Collect: %v", err)
	}
	got := make(map[string]int64)
	add := func(points []metricdata.DataPoint[int64]) {
		for _, p := range points {
			v, _ := p.Attributes.Value(attribute.Key(key))
			got[v.AsString()] += p.Value
		}
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Name != name {
				continue
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				add(d.DataPoints)
			case metricdata.Gauge[int64]:
				add(d.DataPoints)
			}
		}
	}
	return got
}

func TestStrangersStayOut(t *testing.T) {
	keys := func(keys ...[]byte) option { return withConfig(func(c *Config) { c.Keys = keys }) }
	for name, opts := range map[string][2]option{
		"other label":        {withConfig(func(c *Config) { c.Label = "one" }), withConfig(func(c *Config) { c.Label = "two" })},
		"other key":          {keys(key(1)), keys(key(2))},
		"no key":             {keys(key(1)), keys()},
		"no key at the seed": {keys(), keys(key(1))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader := sdkmetric.NewManualReader()
			meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
			p := fast()
			p.firstJoin = 100 * time.Millisecond
			a := mustStart(t, "us-east", "a", opts[0], withPace(p))
			b := mustStart(t, "eu-west", "b", opts[1], withPace(p), withSeeds(a.Addr()), withMeter(meter))
			eventually(t, "the stranger has tried a few times", func() bool {
				return counts(t, reader, "punchclock.gossip.joins", "outcome")["failed"] >= 3
			})
			if got := counts(t, reader, "punchclock.gossip.joins", "outcome")["ok"]; got != 0 {
				t.Errorf("%d joins succeeded, want none", got)
			}
			converge(t, a)
			converge(t, b)
		})
	}
}

// foreigner is a node that runs something else.
type foreigner struct {
	meta []byte
	says [][]byte // all the time
}

func (f foreigner) NodeMeta(int) []byte           { return f.meta }
func (f foreigner) NotifyMsg([]byte)              {}
func (f foreigner) LocalState(bool) []byte        { return []byte("what is this?") }
func (f foreigner) MergeRemoteState([]byte, bool) {}
func (f foreigner) GetBroadcasts(int, int) [][]byte {
	return f.says
}

func mustForeigner(t *testing.T, name string, f foreigner, seed string) {
	t.Helper()
	c := memberlist.DefaultLANConfig()
	fast().tune(c)
	c.Name, c.Label, c.BindAddr, c.BindPort = name, "test", "127.0.0.1", 0
	c.Delegate, c.Logger = f, log.New(io.Discard, "", 0)
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = list.Shutdown() })
	if _, err := list.Join([]string{seed}); err != nil {
		t.Fatal(err)
	}
}

func TestNodesOfOtherReleases(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	n := mustStart(t, "us-east", "a", withMeter(meter))

	newer := encodeMeta(region.Member{Region: "eu-west", State: region.Ready, PeerAddr: "127.0.0.1:7", Weight: 50})
	newer[0] = 9
	newer = appendField(newer, 200, []byte("a field of the future"))
	mustForeigner(t, "newer", foreigner{meta: newer}, n.Addr())
	eventually(t, "the newer node is shown", func() bool {
		for _, m := range n.cluster.Snapshot().In("eu-west") {
			return m.Node == "newer" && m.State == region.Ready && m.PeerAddr == "127.0.0.1:7" && m.Weight == 50
		}
		return false
	})

	mustForeigner(t, "garbled", foreigner{meta: []byte{1, 1, 255}, says: [][]byte{
		{250, 1, 2, 3}, {kindCompany, 0}, companyNews{company: "acme", version: 7}.encode(),
	}}, n.Addr())
	eventually(t, "good news is heard among what cannot be read", func() bool { return len(n.changes("acme")) == 1 })
	refused := func() map[string]int64 { return counts(t, reader, "punchclock.gossip.refused", "what") }
	eventually(t, "all that cannot be read is counted", func() bool {
		r := refused()
		return r[refusedMeta] > 0 && r[refusedMessage] > 0 && r[refusedKind] > 0 && r[refusedState] > 0
	})
	if got := n.roster.others(); got != 2 {
		t.Errorf("%d other nodes are known, want both", got)
	}
	if got := len(n.cluster.Snapshot().Members()); got != 2 {
		t.Errorf("%d nodes are shown, want this one and the newer one: %v", got, n.cluster.Snapshot().Members())
	}
	if targets, _ := n.targets(context.Background()); len(targets) != 0 {
		t.Errorf("the node would join %v, which are members", targets)
	}
}

func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	a := mustStart(t, "us-east", "a", withMeter(meter))
	b := mustStart(t, "eu-west", "b", withSeeds(a.Addr()))
	converge(t, a, b)
	a.SetState(region.Ready)
	a.BroadcastCompany("acme", 1)
	b.BroadcastCompany("bolt", 1)
	eventually(t, "the change is heard of", func() bool { return len(a.changes("bolt")) == 1 })
	if got := counts(t, reader, "punchclock.gossip.members", "state"); got["ready"] != 1 || got["warming"] != 1 {
		t.Errorf("members by state are %v, want one ready and one warming", got)
	}
	if got := counts(t, reader, "punchclock.gossip.members", "region"); got["us-east"] != 1 || got["eu-west"] != 1 {
		t.Errorf("members by region are %v, want one each", got)
	}
	if got := counts(t, reader, "punchclock.gossip.company.changes", "event"); got[companySent] != 1 || got[companyReceived] != 1 || got[companyDropped] != 0 {
		t.Errorf("company changes are %v, want one sent and one received", got)
	}
	if _, ok := counts(t, reader, "punchclock.gossip.awareness", "")[""]; !ok {
		t.Error("there is no health score")
	}
	a.kill(t)
	if got := counts(t, reader, "punchclock.gossip.members", "state"); len(got) != 0 {
		t.Errorf("after Close the members are still observed: %v", got)
	}
}
