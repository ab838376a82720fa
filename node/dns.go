package node

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/dns"
)

// startDNS answers clock.<zone> where the settings say so.
func (n *Node) startDNS(ctx context.Context) error {
	if !n.cfg.DNS.Enabled() {
		return nil
	}
	cfg, err := n.dnsConfig()
	if err != nil {
		return err
	}
	server, err := dns.New(cfg, dns.Deps{
		Board: n.board, Log: n.log, Meter: n.telemetry.MeterProvider.Meter("punchclock/dns"),
		Regions:   n.labelled,
		Evacuated: func(r region.Name) bool { return n.switches.Evacuated(r, time.Now()) },
		Stuck:     n.stuckHomes, Suspects: n.dispatch.OpenCircuits,
	})
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	// It goes on without this node's addresses while the node drains, for
	// whoever is told by resolvers to ask here.
	n.closer.addLast("DNS", func(context.Context) error { return server.Close() })
	n.log.InfoContext(ctx, "answering DNS", "addr", server.Addr().String(), "zone", n.cfg.DNS.Zone)
	return nil
}

func (n *Node) dnsConfig() (cfg dns.Config, err error) {
	settings := n.cfg.DNS
	cfg = dns.Config{Zone: settings.Zone, TTL: settings.TTL, NameServers: settings.NameServers}
	for _, r := range settings.Regions {
		cfg.Regions = append(cfg.Regions, region.Name(r))
	}
	if cfg.Addr, err = settings.Address(); err != nil || settings.NetworkFile == "" {
		return cfg, err
	}
	f, err := os.Open(settings.NetworkFile)
	if err != nil {
		return cfg, fmt.Errorf("--dns-networks-file: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	if cfg.Networks, err = dns.ParseNetworks(f); err != nil {
		return cfg, fmt.Errorf("--dns-networks-file: %s: %w", settings.NetworkFile, err)
	}
	return cfg, nil
}

// labelled returns the database's regions.
func (n *Node) labelled() (names []region.Name) {
	for _, label := range n.labels.all() {
		names = append(names, region.Name(label))
	}
	return names
}

// stuckHomes returns the homes to which this node cannot commit.
func (n *Node) stuckHomes() (homes []region.Name) {
	for _, l := range n.dispatch.Lanes() {
		if l.Way == "database" && l.Open {
			homes = append(homes, l.Home)
		}
	}
	return homes
}

// publicAddrs are the addresses that DNS answers for this node, as they are
// compared.
func publicAddrs(settings []netip.Addr) (addrs []netip.Addr) {
	for _, a := range settings {
		addrs = append(addrs, a.Unmap())
	}
	return addrs
}
