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

// Config describes this node and the nodes that it may gossip with.
type Config struct {
	// Self is this node as others see it: Node (see NodeName), Region, PeerAddr, PublicURL, PublicAddrs and Weight.
	// State is its first state.
	Self region.Member
	// Addr is the IP address and port to listen on, TCP and UDP. Port 0 is a free port, and no address means all.
	Addr string
	// Advertise is the host:port at which other nodes reach this node. Empty means the listening address. A name is
	// resolved once, at the start.
	Advertise string
	// Seeds are host:port of nodes to join. Names are resolved each time. This node's own address does no harm.
	Seeds []string
	// Label is the name of the deployment. Messages of nodes with another label are dropped.
	Label string
	// Keys encrypt the messages: at most 8 keys of 16, 24 or 32 bytes. The first key sends, and all keys receive.
	// Without keys nothing is encrypted, and anyone may join.
	Keys [][]byte
}

// Deps are the parts that a Gossip works with. All but Load and Keys are required.
type Deps struct {
	// Cluster receives the views. Nothing else may set them.
	Cluster *region.Cluster
	Log     *slog.Logger
	Meter   metric.Meter
	// Load is called about once a second and returns this node's load.
	Load func() region.Load
	// Keys is called once a second and returns the keys that replace Config.Keys, which must not be empty. After an
	// error the present keys stay in use.
	Keys func() ([][]byte, error)
	// Switches returns the operators' switches that this node knows. Each push/pull sends all of them, so that a
	// node receives the switches whose broadcast it missed.
	Switches func() []region.Switch
	// MergeSwitch merges a switch of another node and reports whether it was news, as region.Switches does.
	// Gossip passes on what was news, so that all nodes end with the same switches. It must return quickly and must
	// not call the Gossip. It is not called after Close.
	MergeSwitch func(s region.Switch) (news bool)
}

// NodeName returns the name of this start of a node: <region>-<host>-<boot id>. Each start needs a new name, because a
// cluster refuses a known name at another address.
func NodeName(regionName, host string) string {
	var boot [5]byte
	_, _ = rand.Read(boot[:]) // never fails, see crypto/rand
	return regionName + "-" + host + "-" + hex.EncodeToString(boot[:])
}

// maxNodeName has room for a region, a host of 63 bytes and a boot id. Every message about a node carries its name.
const maxNodeName = 128

// Validate returns an error that names the wrong field.
func (c Config) Validate() error {
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
			return fmt.Errorf("gossip: each of Seeds must be host:port, one is %q", seed)
		}
	}
	if c.Label == "" || len(c.Label) > memberlist.LabelMaxSize {
		return fmt.Errorf("gossip: Label must have 1 to %d bytes, has %d", memberlist.LabelMaxSize, len(c.Label))
	}
	if len(c.Keys) > maxKeys {
		return fmt.Errorf("gossip: Keys must be at most %d, are %d", maxKeys, len(c.Keys))
	}
	for i, key := range c.Keys {
		if err := memberlist.ValidateKey(key); err != nil {
			return fmt.Errorf("gossip: Keys: key %d must have 16, 24 or 32 bytes, has %d", i+1, len(key))
		}
	}
	return validateMeta(c.Self)
}

// validateMeta refuses a member whose metadata other nodes would refuse. memberlist panics if metadata is too long.
func validateMeta(self region.Member) error {
	if len(self.PublicAddrs) > maxPublicAddrs {
		return fmt.Errorf("gossip: Self.PublicAddrs must be at most %d, are %d", maxPublicAddrs, len(self.PublicAddrs))
	}
	for _, a := range self.PublicAddrs {
		if !dialable(a) {
			return fmt.Errorf("gossip: Self.PublicAddrs: a client cannot dial %s", a)
		}
	}
	for field, text := range map[string]string{"PeerAddr": self.PeerAddr, "PublicURL": self.PublicURL} {
		if !printable(text) {
			return fmt.Errorf("gossip: Self.%s %q has unprintable characters", field, text)
		}
	}
	self.State = region.Draining // the longest state
	meta := encodeMeta(self)
	if len(meta) > memberlist.MetaMaxSize {
		field, size := "PublicURL", len(self.PublicURL)
		if len(self.PeerAddr) > size {
			field, size = "PeerAddr", len(self.PeerAddr)
		}
		return fmt.Errorf("gossip: Self.%s of %d bytes is too long: the node's metadata has %d bytes of at most %d",
			field, size, len(meta), memberlist.MetaMaxSize)
	}
	if _, err := decodeMeta(meta); err != nil {
		return fmt.Errorf("gossip: Self: %w", err)
	}
	return nil
}

func (d *Deps) validate() error {
	for field, missing := range map[string]bool{
		"Cluster": d.Cluster == nil, "Log": d.Log == nil, "Meter": d.Meter == nil,
		"Switches": d.Switches == nil, "MergeSwitch": d.MergeSwitch == nil,
	} {
		if missing {
			return fmt.Errorf("gossip: %s is missing", field)
		}
	}
	return nil
}

var errNoKeys = errors.New("gossip: Keys is empty, and encryption cannot be turned on or off while a node runs")

// bindAddr parses the address to listen on. It refuses a name, which memberlist would take for "all addresses".
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
