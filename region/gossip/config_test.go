package gossip

import (
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/punchclock/punchclock/region"
)

func goodDeps() Deps {
	known := new(region.Switches)
	return Deps{Cluster: &region.Cluster{}, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
		Switches: known.All, MergeSwitch: known.Merge}
}

func TestNodeName(t *testing.T) {
	a, b := NodeName("us-east", "host1"), NodeName("us-east", "host1")
	if !regexp.MustCompile(`^us-east-host1-[0-9a-f]{10}$`).MatchString(a) {
		t.Errorf("NodeName is %q, want region-host-bootid", a)
	}
	if a == b {
		t.Errorf("two starts have the same name %q", a)
	}
}

func TestNewShowsThisNodeAlone(t *testing.T) {
	deps := goodDeps()
	g, err := New(goodConfig("us-east", "a"), deps)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	members := deps.Cluster.Snapshot().Members()
	if len(members) != 1 || members[0].Node != g.cfg.Self.Node || members[0].StateAt.IsZero() {
		t.Errorf("the view shows %+v, want this node", members)
	}
}

func TestErrorNamesTheField(t *testing.T) {
	for setting, spoil := range map[string]func(*Config){
		"Self.Node":                      func(c *Config) { c.Self.Node = "" },
		"Self.Node must":                 func(c *Config) { c.Self.Node = strings.Repeat("n", maxNodeName+1) },
		"Self.Region":                    func(c *Config) { c.Self.Region = "Nowhere!" },
		"Self.PublicURL of":              func(c *Config) { c.Self.PublicURL = "https://" + strings.Repeat("u", 500) },
		"Self.PeerAddr of":               func(c *Config) { c.Self.PeerAddr = strings.Repeat("p", 500) + ":7400" },
		"Self: ":                         func(c *Config) { c.Self.PeerAddr = "no port" },
		"Self.PublicURL \"https://a\\nb": func(c *Config) { c.Self.PublicURL = "https://a\nb" },
		"PublicAddrs must be at":         func(c *Config) { c.Self.PublicAddrs = make([]netip.Addr, maxPublicAddrs+1) },
		"dial 0.0.0.0":                   func(c *Config) { c.Self.PublicAddrs = []netip.Addr{netip.IPv4Unspecified()} },
		"Addr: must":                     func(c *Config) { c.Addr = "localhost:0" },
		"Addr: ":                         func(c *Config) { c.Addr = "127.0.0.1" },
		"Addr: port":                     func(c *Config) { c.Addr = "127.0.0.1:65536" },
		"Advertise must":                 func(c *Config) { c.Advertise = ":7946" },
		"Advertise must be":              func(c *Config) { c.Advertise = "host:0" },
		"each of Seeds must":             func(c *Config) { c.Seeds = []string{"host:1", "host"} },
		"Label must":                     func(c *Config) { c.Label = "" },
		"Label must have":                func(c *Config) { c.Label = strings.Repeat("l", 256) },
		"Keys: key 2":                    func(c *Config) { c.Keys = [][]byte{make([]byte, 16), make([]byte, 15)} },
	} {
		cfg := goodConfig("us-east", "a")
		spoil(&cfg)
		if _, err := New(cfg, goodDeps()); err == nil || !strings.Contains(err.Error(), setting) {
			t.Errorf("New says %v, want an error about %q", err, setting)
		}
	}
	for name, spoil := range map[string]func(*Deps){
		"Cluster":     func(d *Deps) { d.Cluster = nil },
		"Log":         func(d *Deps) { d.Log = nil },
		"Switches":    func(d *Deps) { d.Switches = nil },
		"MergeSwitch": func(d *Deps) { d.MergeSwitch = nil },
		"Meter":       func(d *Deps) { d.Meter = nil },
	} {
		deps := goodDeps()
		spoil(&deps)
		if _, err := New(goodConfig("us-east", "a"), deps); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New without a %s says %v, want an error about it", name, err)
		}
	}
}

// TestLongestMetadata holds that memberlist accepts the longest metadata that New accepts.
func TestLongestMetadata(t *testing.T) {
	cfg := goodConfig("us-east", "a")
	cfg.Self.PublicURL = "https://"
	cfg.Self.State = region.Draining // warming, the zero state, takes two bytes less
	for len(encodeMeta(cfg.Self)) < 512 {
		cfg.Self.PublicURL += "u"
	}
	a := mustStart(t, "us-east", "a", withConfig(func(c *Config) { c.Self.PublicURL = cfg.Self.PublicURL }))
	b := mustStart(t, "eu-west", "b", withSeeds(a.Addr()))
	converge(t, a, b)
	if m, _ := b.sees(a); m.PublicURL != cfg.Self.PublicURL {
		t.Errorf("the other node sees the URL %q, want %q", m.PublicURL, cfg.Self.PublicURL)
	}
	cfg.Self.PublicURL += "u"
	if _, err := New(cfg, goodDeps()); err == nil {
		t.Error("one byte more is accepted")
	}
}
