package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/region"
)

// Config says which names are answered, and how.
type Config struct {
	// Addr is the IP address and port to listen on, UDP and TCP. Port 0 is a free port.
	Addr netip.AddrPort
	// Zone is the domain above clock.<zone>, such as example.com. Only clock.<zone> and names below it are answered.
	Zone string
	// TTL is the time to live of addresses and of negative answers, 5 to 15 s.
	TTL time.Duration
	// Regions is the order in which regions are preferred. All other regions follow, by name.
	Regions []region.Name
	// Networks has the regions near to a client. It may be nil.
	Networks *Networks
	// NameServers are the names of the servers of clock.<zone>, at least one. They must be outside of clock.<zone>,
	// because this server cannot answer their addresses.
	NameServers []string
}

// Deps are the parts that a Server works with. The functions may be nil, and are called five times a second.
type Deps struct {
	Cluster *region.Cluster
	Log     *slog.Logger
	Meter   metric.Meter
	// Regions returns the regions that exist, also without nodes, so that their names exist.
	Regions func() []region.Name
	// Evacuated reports whether a region is out of service.
	Evacuated func(region.Name) bool
	// Stuck returns the regions whose database commits nothing. clock.<zone> prefers other regions.
	Stuck func() []region.Name
	// Suspects returns the nodes that do not answer this node's calls.
	Suspects func() []string
}

const (
	// A resolver keeps an answer for the TTL after the answer has changed. Below 5 s many clients ask for each punch,
	// and some resolvers ignore such a TTL. Above 15 s a client that tries its next endpoint is faster.
	minTTL, maxTTL = 5 * time.Second, 15 * time.Second
	// clock is the label below the zone.
	clock = "clock"
	// A region's name has at most 32 bytes, and a DNS name 253 without the last dot.
	maxZone = 253 - len(clock+".") - 32 - 1
	// Eight names of almost any length fit into a packet of 512 bytes.
	maxNameServers = 8
)

// Validate returns an error that names the wrong field.
func (c Config) Validate() error {
	zone := strings.TrimSuffix(strings.ToLower(c.Zone), ".")
	if _, ok := miekg.IsDomainName(zone); !ok || !hostname(zone) || len(zone) > maxZone {
		return fmt.Errorf("dns: Zone must be a domain of at most %d bytes, is %q", maxZone, c.Zone)
	}
	if !c.Addr.IsValid() {
		return errors.New("dns: Addr must be an IP address and a port")
	}
	if c.TTL < minTTL || c.TTL > maxTTL || c.TTL%time.Second != 0 {
		return fmt.Errorf("dns: TTL must be whole seconds from %s to %s, is %s", minTTL, maxTTL, c.TTL)
	}
	for _, r := range c.Regions {
		if _, err := region.ParseName(string(r)); err != nil {
			return fmt.Errorf("dns: Regions: %q: %w", r, err)
		}
	}
	if len(c.NameServers) == 0 || len(c.NameServers) > maxNameServers {
		return fmt.Errorf("dns: NameServers must be 1 to %d, are %d", maxNameServers, len(c.NameServers))
	}
	for _, ns := range c.NameServers {
		name := strings.TrimSuffix(strings.ToLower(ns), ".")
		if !hostname(name) {
			return fmt.Errorf("dns: NameServers must be names of hosts, one is %q", ns)
		}
		if miekg.IsSubDomain(apexOf(zone), name+".") {
			return fmt.Errorf("dns: NameServers must lie outside of %s, because this server does not answer their addresses; one is %q", apexOf(zone), ns)
		}
	}
	return nil
}

func (d *Deps) validate() error {
	switch {
	case d.Cluster == nil:
		return errors.New("dns: Cluster is missing")
	case d.Log == nil:
		return errors.New("dns: Log is missing")
	case d.Meter == nil:
		return errors.New("dns: Meter is missing")
	default:
		return nil
	}
}

// hostname reports whether s consists of labels of letters, digits and hyphens, without a dot at its end.
func hostname(s string) bool {
	if len(s) > 253 {
		return false
	}
	return !slices.ContainsFunc(strings.Split(s, "."), func(label string) bool {
		return label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != ""
	})
}

// apexOf returns clock.<zone>. in lower case.
func apexOf(zone string) string {
	return clock + "." + strings.TrimSuffix(strings.ToLower(zone), ".") + "."
}
