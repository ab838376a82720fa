package config

import (
	"fmt"
	"net/netip"
	"time"
)

// DNS is the name server for clock.<zone> and <region>.clock.<zone>.
type DNS struct {
	Addr string `help:"IP address and port to answer DNS on, UDP and TCP; off when empty. Outside of a test it is asked on port 53."`
	Zone string `help:"Domain in which clock.<zone> lies, such as example.com. Nothing else is answered."`
	// See region/dns for why neither less nor more.
	TTL         time.Duration `help:"How long resolvers keep an answer, 5s to 15s." default:"10s"`
	Regions     []string      `help:"Order in which clock.<zone> answers regions; those that are not named follow."`
	NameServers []string      `help:"Names of the name servers, the first of them in the SOA. They lie outside of clock.<zone>."`
	NetworkFile string        `help:"Table of networks with the regions near to them, nearest first: '10.20.0.0/16 eu-west us-east' in each line." name:"networks-file" type:"path"`
}

// Enabled says whether this node answers DNS.
func (d *DNS) Enabled() bool { return d.Addr != "" }

// Address returns where to answer.
func (d *DNS) Address() (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(d.Addr)
	if err != nil {
		return a, fmt.Errorf("--dns-addr: must be an IP address and a port, is %q", d.Addr)
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
		wrong.add("dns-zone", "is needed for --dns-addr: the domain in which clock.<zone> lies")
	}
	if len(d.NameServers) == 0 {
		wrong.add("dns-name-servers", "is needed for --dns-addr: what the zone's NS records say")
	}
	if d.TTL < 5*time.Second || d.TTL > 15*time.Second || d.TTL%time.Second != 0 {
		wrong.add("dns-ttl", "must be whole seconds from 5s to 15s, is %s", d.TTL)
	}
}
