package config

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
)

// deploymentPattern is the form that a SPIFFE ID allows for the deployment's name.
var deploymentPattern = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)

// checkSecurity requires all files that secure the traffic between nodes, or --insecure and none of them. A cluster
// that is half in plain text is a mistake.
func (c *Node) checkSecurity(wrong *problems) {
	if !deploymentPattern.MatchString(c.Deployment) || len(c.Deployment) > 255 { // memberlist's bound
		wrong.add("deployment", "must be 1 to 255 lower-case letters, digits, '_', '-' and single dots between them; is %q", c.Deployment)
	}
	files := []struct {
		setting, path string
		needed        bool
	}{
		{"peer-cert-file", c.Peer.CertFile, true},
		{"peer-key-file", c.Peer.KeyFile, true},
		{"peer-ca-file", c.Peer.CAFile, true},
		{"gossip-key-file", c.Gossip.KeyFile, true},
		{"public-cert-file", c.Public.CertFile, c.Public.KeyFile != ""},
		{"public-key-file", c.Public.KeyFile, c.Public.CertFile != ""},
	}
	for _, f := range files {
		switch {
		case c.Insecure && f.path != "":
			wrong.add("insecure", "must not be given together with --%s", f.setting)
		case !c.Insecure && f.needed && f.path == "":
			wrong.add(f.setting, "is required; on loopback --insecure replaces all certificates and keys")
		}
	}
	if c.Insecure {
		for setting, addr := range c.addresses() {
			if !Loopback(addr) {
				wrong.add("insecure", "is allowed on loopback only, and --%s is %s", setting, addr)
			}
		}
	}
}

// addresses returns every address on which the node listens, which it tells others, or which it joins.
func (c *Node) addresses() map[string]string {
	list := map[string]string{
		"public-addr": c.Public.Addr, "peer-addr": c.Peer.Addr, "ops-addr": c.Ops.Addr, "gossip-addr": c.Gossip.Addr,
	}
	if c.Peer.Advertise != "" {
		list["peer-advertise"] = c.Peer.Advertise
	}
	if c.Gossip.Advertise != "" {
		list["gossip-advertise"] = c.Gossip.Advertise
	}
	if c.DNS.Addr != "" {
		list["dns-addr"] = c.DNS.Addr
	}
	if u, err := url.Parse(c.Public.URL); err == nil && u.Host != "" {
		list["public-url"] = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), u.Scheme))
	}
	if i := slices.IndexFunc(c.Public.Addresses, func(a netip.Addr) bool { return !a.Unmap().IsLoopback() }); i >= 0 {
		list["public-addresses"] = net.JoinHostPort(c.Public.Addresses[i].String(), "any")
	}
	if i := slices.IndexFunc(c.Gossip.Seeds, func(seed string) bool { return !Loopback(seed) }); i >= 0 {
		list["gossip-seeds"] = c.Gossip.Seeds[i]
	}
	return list
}

// Loopback reports whether only this machine can reach host:port.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
