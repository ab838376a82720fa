package gossip

import (
	"context"
	"io"
	"log"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/punchclock/punchclock/region"
)

// mustMeter returns a meter and the reader of its metrics.
func mustMeter(t testing.TB) (*sdkmetric.ManualReader, metric.Meter) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	return reader, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
}

// counts returns the sums of a counter by the value of one attribute.
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

func TestForeignNodesStayOut(t *testing.T) {
	keys := func(keys ...[]byte) option { return withConfig(func(c *Config) { c.Keys = keys }) }
	for name, opts := range map[string][2]option{
		"other label":        {withConfig(func(c *Config) { c.Label = "one" }), withConfig(func(c *Config) { c.Label = "two" })},
		"other key":          {keys(key(1)), keys(key(2))},
		"no key":             {keys(key(1)), keys()},
		"no key at the seed": {keys(), keys(key(1))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader, meter := mustMeter(t)
			p := fast()
			p.firstJoin = 100 * time.Millisecond
			a := mustStart(t, "us-east", "a", opts[0], withTimings(p))
			b := mustStart(t, "eu-west", "b", opts[1], withTimings(p), withSeeds(a.Addr()), withMeter(meter))
			eventually(t, "the foreign node has tried a few times", func() bool {
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

// foreigner is a node that runs other software.
type foreigner struct {
	meta []byte
	says [][]byte // in every packet
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
	reader, meter := mustMeter(t)
	n := mustStart(t, "us-east", "a", withMeter(meter))

	newField := protowire.AppendString(protowire.AppendTag(nil, 200, protowire.BytesType), "a field of a newer release")
	newer := encodeMeta(region.Member{Region: "eu-west", State: region.Ready, PeerAddr: "127.0.0.1:7", Weight: 50})
	mustForeigner(t, "newer", foreigner{meta: append(newer, newField...)}, n.Addr())
	eventually(t, "the newer node is shown", func() bool {
		for _, m := range n.cluster.Snapshot().In("eu-west") {
			return m.Node == "newer" && m.State == region.Ready && m.PeerAddr == "127.0.0.1:7" && m.Weight == 50
		}
		return false
	})

	mustForeigner(t, "garbled", foreigner{meta: []byte{1, 1, 255}, says: [][]byte{
		newField, {250, 1, 2, 3}, switchMessage(region.Switch{Region: "EU"}), switchMessage(region.Switch{Region: "us-east", Level: 1, Version: 7}),
	}}, n.Addr())
	eventually(t, "the valid switch among invalid messages arrives", func() bool { return n.has("us-east", 7) })
	refused := func() map[string]int64 { return counts(t, reader, "punchclock.gossip.refused", "kind") }
	eventually(t, "all kinds of refused data are counted", func() bool {
		r := refused()
		return r[refusedMeta] > 0 && r[refusedMessage] > 0 && r[refusedContent] > 0 && r[refusedPushPull] > 0
	})
	if got := n.members.others(); got != 2 {
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
	reader, meter := mustMeter(t)
	a := mustStart(t, "us-east", "a", withMeter(meter))
	b := mustStart(t, "eu-west", "b", withSeeds(a.Addr()))
	converge(t, a, b)
	a.SetState(region.Ready)
	if got := counts(t, reader, "punchclock.gossip.members", "state"); got["ready"] != 1 || got["warming"] != 1 {
		t.Errorf("members by state are %v, want one ready and one warming", got)
	}
	if got := counts(t, reader, "punchclock.gossip.members", "region"); got["us-east"] != 1 || got["eu-west"] != 1 {
		t.Errorf("members by region are %v, want one each", got)
	}
	if _, ok := counts(t, reader, "punchclock.gossip.awareness", "")[""]; !ok {
		t.Error("there is no awareness score")
	}
	a.kill(t)
	if got := counts(t, reader, "punchclock.gossip.members", "state"); len(got) != 0 {
		t.Errorf("after Close the members are still observed: %v", got)
	}
}
