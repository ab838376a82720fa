package cluster

import (
	"net"
	"strings"
)

// dnsFlags give a node its public address, and its DNS server if the cluster has a zone.
func (c *Cluster) dnsFlags(n *Node) []string {
	host, _, _ := net.SplitHostPort(address(n.PublicURL))
	flags := []string{"--public-addresses=" + host}
	if n.DNSAddr == "" {
		return flags
	}
	return append(flags,
		"--dns-addr="+n.DNSAddr, "--dns-zone="+c.cfg.DNSZone, "--dns-regions="+strings.Join(c.Regions(), ","),
		"--dns-name-servers=ns1."+c.cfg.DNSZone,
	)
}
