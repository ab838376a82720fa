package cluster

import (
	"net"
	"strings"
)

// dnsFlags tell a node what DNS says of it, and to answer it where that is
// asked for.
func (c *Cluster) dnsFlags(n *Node) []string {
	host, _, _ := net.SplitHostPort(address(n.PublicURL)) // we made it
	flags := []string{"--public-addresses=" + host}
	if n.DNSAddr == "" {
		return flags
	}
	return append(flags,
		"--dns-addr="+n.DNSAddr, "--dns-zone="+c.cfg.DNSZone, "--dns-regions="+strings.Join(c.Regions(), ","),
		"--dns-name-servers=ns1."+c.cfg.DNSZone,
	)
}
