package cluster

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/punchclock/punchclock/node/certs"
)

// cluster is the running cluster as far as s tells, for making plans.
func (s *State) cluster() (*Cluster, error) {
	addr, err := netip.ParseAddrPort(s.Database.Hosts[0].Addr)
	if err != nil {
		return nil, err
	}
	ws := &workspace{dir: s.Dir, certs: certs.Dir(filepath.Join(s.Dir, "certs")), pick: freeAddrs}
	if octets := addr.Addr().As4(); octets[1] != 0 { // else all is on 127.0.0.1
		ws.loopback.cluster = int(octets[1])
	}
	first := s.Nodes[0]
	c := &Cluster{
		ws: ws, keyFile: s.GossipKeyFile, seeds: strings.Split(first.Settings["gossip-seeds"], ","),
		cfg:      Config{Regions: slices.Clone(s.Regions), JWKS: first.Settings["token-jwks"], DNSZone: first.Settings["dns-zone"], ExtraEnv: func(*Node) []string { return first.Env }},
		Database: &Database{Engine: s.Database.Engine, ws: ws},
	}
	for _, h := range s.Database.Hosts {
		c.Database.hosts = append(c.Database.hosts, &host{region: h.Region, addr: h.Addr})
	}
	return c, nil
}

// grow plans one more region, and gives it certificates.
func (s *State) grow(region string) error {
	c, err := s.cluster()
	if err != nil {
		return err
	}
	c.cfg.Regions = append(c.cfg.Regions, region)
	if _, err := c.cfg.forDatabase(); err != nil {
		return err
	}
	addr := c.ws.host(len(c.cfg.Regions))
	hosts := append(c.ws.certified(), addr)
	if err := c.ws.certs.MakeRegion(certs.Dev{
		Deployment: c.ws.deployment(), Regions: []string{region}, Hosts: hosts, DatabaseHosts: hosts, Life: certificateLife,
	}); err != nil {
		return err
	}
	addrs, err := c.ws.pick(addr, 1)
	if err != nil {
		return err
	}
	c.Database.hosts = append(c.Database.hosts, &host{region: region, addr: addrs[0]})
	if err := c.planRegion(region, countIn(s.Nodes, s.Regions[0])); err != nil {
		return err
	}
	for _, n := range c.nodes {
		s.Nodes = append(s.Nodes, c.stateOf(n))
	}
	s.Regions = c.cfg.Regions
	s.Database.URLs[region] = c.DatabaseURL(region)
	s.Database.Hosts = append(s.Database.Hosts, HostState{Region: region, Addr: addrs[0], Log: c.ws.logFile("cockroach-" + region)})
	return nil
}

func countIn(nodes []NodeState, region string) (n int) {
	for _, node := range nodes {
		if node.Region == region {
			n++
		}
	}
	return n
}

// forget takes a region out of s, with its data and its certificates.
func (s *State) forget(region string) error {
	c, err := s.cluster()
	if err != nil {
		return err
	}
	s.Regions = slices.DeleteFunc(s.Regions, func(r string) bool { return r == region })
	s.Nodes = slices.DeleteFunc(s.Nodes, func(n NodeState) bool { return n.Region == region })
	s.Database.Hosts = slices.DeleteFunc(s.Database.Hosts, func(h HostState) bool { return h.Region == region })
	delete(s.Database.URLs, region)
	certificate, key := c.ws.certs.Node(region)
	return errors.Join(os.RemoveAll(c.ws.cockroachStore(region)), os.RemoveAll(c.ws.certs.DatabaseOf(region)),
		os.RemoveAll(certificate), os.RemoveAll(key), os.RemoveAll(filepath.Join(s.Dir, serversFolder, region, endedFile)))
}
