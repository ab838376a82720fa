package node

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/dns"
)

// startDNS answers clock.<zone> if the settings ask for it.
func (n *Node) startDNS(ctx context.Context) error {
	if !n.cfg.DNS.Enabled() {
		return nil
	}
	cfg, err := n.dnsConfig()
	if err != nil {
		return err
	}
	server, err := dns.New(cfg, dns.Deps{
		Cluster: n.cluster, Log: n.log, Meter: n.telemetry.MeterProvider.Meter("punchclock/dns"),
		Regions: n.regions.all, Evacuated: n.evacuated, Stuck: n.stuckHomes, Suspects: n.dispatch.OpenBreakers,
	})
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	// It answers while the node drains, without this node's addresses: resolvers still ask here.
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

// publicAddrs returns the addresses that DNS answers for this node, in the one form in which they can be compared.
func publicAddrs(settings []netip.Addr) (addrs []netip.Addr) {
	for _, a := range settings {
		addrs = append(addrs, a.Unmap())
	}
	return addrs
}
