package gossip

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/hashicorp/memberlist"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/region"
)

// Config says who this node is and whom it may gossip with.
type Config struct {
	// Self is this node as others shall see it: Node (see NodeName), Region,
	// PeerAddr, PublicURL, PublicAddrs and Weight. State is the one it begins in.
	Self region.Member
	// Addr is the IP address and port to gossip on, TCP and UDP. Port 0 takes
	// a free one, no address means all.
	Addr string
	// Advertise is the host:port that other nodes gossip to; the bound address
	// when empty. A name is resolved once, at the start.
	Advertise string
	// Seeds are host:port of nodes to join. Names are resolved anew each time;
	// this node's own address among them does no harm.
	Seeds []string
	// Label is the deployment's name. Nodes of another one are not heard.
	Label string
	// Keys encrypt, 16, 24 or 32 bytes each: the first sends, all receive.
	// Without any, nothing is encrypted and anybody may join. At most 8.
	Keys [][]byte
}

// Deps is what a Gossip works with. The functions may be nil.
type Deps struct {
	// Cluster is written by the Gossip alone.
	Cluster *region.Cluster
	Log     *slog.Logger
	Meter   metric.Meter
	// Load is asked about once a second.
	Load func() region.Load
	// Keys, which may be nil, is asked once a second which keys hold now. They
	// take the place of Config.Keys, which must not be empty; an error changes
	// nothing.
	Keys func() ([][]byte, error)
	// CompanyChanged is called for each change that another node tells of,
	// once per company and version as a rule. It must return quickly and must
	// not call the Gossip. It is not called after Close.
	CompanyChanged func(company string, version int64)
	// Evacuations returns the operators' switches that this node knows. Each push/pull sends all of them, so that a
	// node receives the switches whose broadcast it missed.
	Evacuations func() []region.Evacuation
	// MergeEvacuation merges a switch of another node and reports whether it was news, as region.Evacuations does.
	// Gossip passes on what was news, so that all nodes end with the same switches. It must return quickly and must
	// not call the Gossip. It is not called after Close.
	MergeEvacuation func(e region.Evacuation) (news bool)
}

// NodeName returns a name for this start of a node: <region>-<host>-<boot id>.
// A restarted node needs a new one, because a pool refuses a known name at
// another address.
func NodeName(regionName, host string) string {
	var boot [5]byte
	_, _ = rand.Read(boot[:]) // never fails, see crypto/rand
	return regionName + "-" + host + "-" + hex.EncodeToString(boot[:])
}

// maxNodeName holds a region, a host of 63 and a boot id. The name stands in
// every message about the node.
const maxNodeName = 128

func (c *Config) validate() error {
	if c.Self.Node == "" || len(c.Self.Node) > maxNodeName {
		return fmt.Errorf("gossip: Self.Node must have 1 to %d bytes, has %d", maxNodeName, len(c.Self.Node))
	}
	if _, err := region.ParseName(string(c.Self.Region)); err != nil {
		return fmt.Errorf("gossip: Self.Region %q: %w", c.Self.Region, err)
	}
	if _, err := bindAddr(c.Addr); err != nil {
		return fmt.Errorf("gossip: Addr: %w", err)
	}
	if c.Advertise != "" {
		host, port, err := splitHostPort(c.Advertise)
		if err != nil || host == "" || port == 0 {
			return fmt.Errorf("gossip: Advertise must be host:port, is %q", c.Advertise)
		}
	}
	for _, seed := range c.Seeds {
		if host, port, err := splitHostPort(seed); err != nil || host == "" || port == 0 {
			return fmt.Errorf("gossip: Seeds must be host:port, one is %q", seed)
		}
	}
	if c.Label == "" || len(c.Label) > memberlist.LabelMaxSize {
		return fmt.Errorf("gossip: Label must have 1 to %d bytes, has %d", memberlist.LabelMaxSize, len(c.Label))
	}
	if len(c.Keys) > maxKeys {
		return fmt.Errorf("gossip: Keys: at most %d are taken, there are %d", maxKeys, len(c.Keys))
	}
	for i, key := range c.Keys {
		if err := memberlist.ValidateKey(key); err != nil {
			return fmt.Errorf("gossip: Keys: key %d: must have 16, 24 or 32 bytes, has %d", i+1, len(key))
		}
	}
	return validateMeta(c.Self)
}

// validateMeta makes sure that no state this node will ever publish is refused
// by others, or too big: memberlist panics then.
func validateMeta(self region.Member) error {
	if len(self.PublicAddrs) > maxPublicAddrs {
		return fmt.Errorf("gossip: Self.PublicAddrs: at most %d are told, there are %d", maxPublicAddrs, len(self.PublicAddrs))
	}
	for _, a := range self.PublicAddrs {
		if !dialable(a) {
			return fmt.Errorf("gossip: Self.PublicAddrs: %s is no address that a client can dial", a)
		}
	}
	meta := encodeMeta(self)
	if len(meta) > memberlist.MetaMaxSize {
		setting, size := "Self.PublicURL", len(self.PublicURL)
		if len(self.PeerAddr) > size {
			setting, size = "Self.PeerAddr", len(self.PeerAddr)
		}
		return fmt.Errorf("gossip: %s of %d bytes is too long: the node's metadata has %d bytes of at most %d",
			setting, size, len(meta), memberlist.MetaMaxSize)
	}
	if _, err := decodeMeta(meta); err != nil {
		return fmt.Errorf("gossip: Self: %w", err)
	}
	return nil
}

func (d *Deps) validate() error {
	switch {
	case d.Cluster == nil:
		return errors.New("gossip: Cluster is missing")
	case d.Evacuations == nil || d.MergeEvacuation == nil:
		return errors.New("gossip: Evacuations or MergeEvacuation is missing")
	case d.Log == nil:
		return errors.New("gossip: Log is missing")
	case d.Meter == nil:
		return errors.New("gossip: Meter is missing")
	default:
		return nil
	}
}

var errNoKeys = errors.New("gossip: Keys: there is none, and encryption cannot be turned on or off while a node runs")

// bindAddr reads the address to listen on. memberlist would take a name for
// "all addresses", so a name is refused.
func bindAddr(s string) (netip.AddrPort, error) {
	host, port, err := splitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		host = "0.0.0.0"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("must be an IP address and a port, is %q", s)
	}
	return netip.AddrPortFrom(ip, port), nil
}

func splitHostPort(s string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	p, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q is not a number up to 65535", service)
	}
	return host, uint16(p), nil
}
