package dns

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/region"
)

func TestErrorNamesTheField(t *testing.T) {
	for want, spoil := range map[string]func(*Config, *Deps){
		"Zone must":             func(c *Config, _ *Deps) { c.Zone = "" },
		"Zone must be":          func(c *Config, _ *Deps) { c.Zone = "exa mple.com" },
		"Zone must be a domain": func(c *Config, _ *Deps) { c.Zone = strings.Repeat("abcdefghi.", 22) + "com" },
		"Addr":                  func(c *Config, _ *Deps) { c.Addr = netip.AddrPort{} },
		"TTL":                   func(c *Config, _ *Deps) { c.TTL = 4 * time.Second },
		"TTL must":              func(c *Config, _ *Deps) { c.TTL = 16 * time.Second },
		"TTL must be":           func(c *Config, _ *Deps) { c.TTL = 5500 * time.Millisecond },
		"Regions":               func(c *Config, _ *Deps) { c.Regions = []region.Name{"Mars!"} },
		"NameServers":           func(c *Config, _ *Deps) { c.NameServers = nil },
		"NameServers must":      func(c *Config, _ *Deps) { c.NameServers = []string{"a b"} },
		"NameServers must be 1": func(c *Config, _ *Deps) { c.NameServers = make([]string, 9) },
		"outside of clock":      func(c *Config, _ *Deps) { c.NameServers = []string{"NS.clock.Example.com."} },
		"Cluster":               func(_ *Config, d *Deps) { d.Cluster = nil },
		"Log":                   func(_ *Config, d *Deps) { d.Log = nil },
		"Meter":                 func(_ *Config, d *Deps) { d.Meter = nil },
	} {
		cfg, deps := goodConfig(), newCluster().deps()
		spoil(&cfg, &deps)
		if _, err := New(cfg, deps); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New says %v, want an error with %q", err, want)
		}
	}
	for _, zone := range []string{"example.com.", "Example.COM", "test", strings.Repeat("abcdefghi.", 21) + "abc"} {
		cfg := goodConfig()
		cfg.Zone = zone
		if _, err := New(cfg, newCluster().deps()); err != nil {
			t.Errorf("the zone %q: %v", zone, err)
		}
	}
}
