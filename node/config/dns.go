package config

import (
	"fmt"
	"net/netip"
	"time"
)

// DNS is the name server for clock.<zone> and <region>.clock.<zone>.
type DNS struct {
	Addr        string        `help:"IP address and port on which the node answers DNS over UDP and TCP. The default is off. Resolvers ask port 53."`
	Zone        string        `help:"Domain that contains clock.<zone>, such as example.com. All other names are refused."`
	TTL         time.Duration `help:"How long resolvers keep an answer, from 5s to 15s. A client may go to a lost region for that long." default:"10s"`
	Regions     []string      `help:"Order in which clock.<zone> prefers regions. Regions that are not named come last."`
	NameServers []string      `help:"Host names of the name servers. The first is the primary server in the SOA record. They must lie outside of clock.<zone>."`
	NetworkFile string        `help:"File with one network in each line, followed by its nearest regions in order, such as '10.20.0.0/16 eu-west us-east'." name:"networks-file" type:"path"`
}

// Enabled reports whether this node answers DNS.
func (d *DNS) Enabled() bool { return d.Addr != "" }

// Address returns the address on which the node answers.
func (d *DNS) Address() (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(d.Addr)
	if err != nil {
		return a, fmt.Errorf("--dns-addr: must be an IP address and port, is %q", d.Addr)
	}
	return a, nil
}

func (d *DNS) check(wrong *problems) {
	if !d.Enabled() {
		return
	}
	if _, err := d.Address(); err != nil {
		*wrong = append(*wrong, err)
	}
	if d.Zone == "" {
		wrong.add("dns-zone", "is required with --dns-addr: the domain that contains clock.<zone>")
	}
	if len(d.NameServers) == 0 {
		wrong.add("dns-name-servers", "is required with --dns-addr: the host names in the zone's NS records")
	}
	if d.TTL < 5*time.Second || d.TTL > 15*time.Second || d.TTL%time.Second != 0 {
		wrong.add("dns-ttl", "must be whole seconds from 5s to 15s, is %s", d.TTL)
	}
}
