package dns

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/punchclock/punchclock/region"
)

// want checks the choice for a region's name, or for clock.<zone> if name is empty.
func (c *cluster) want(t *testing.T, s *Server, name region.Name, wantRegion region.Name, reason string, addrs ...string) {
	t.Helper()
	s.refresh()
	p := s.current.Load()
	got := p.forApex(nil, netip.Addr.Is4)
	if name != "" {
		got = p.forRegion(name, netip.Addr.Is4)
	}
	var list []string
	for _, a := range got.addrs {
		if a.Is4() {
			list = append(list, a.String())
		}
	}
	slices.Sort(list)
	if got.region != wantRegion || got.reason != reason || !slices.Equal(list, addrs) {
		t.Errorf("the answer to %q is %s (%s) %v, want %s (%s) %v", name, got.region, got.reason, list, wantRegion, reason, addrs)
	}
}

func TestChoose(t *testing.T) {
	state := func(s region.State) func(*region.Member) { return func(m *region.Member) { m.State = s } }
	const us1, us2, eu1, eu2, ap1, ap2 = "192.0.1.1", "192.0.1.2", "192.0.2.1", "192.0.2.2", "192.0.3.1", "192.0.3.2"
	for name, test := range map[string]func(*testing.T, *cluster, *Server){
		"the configured order": func(t *testing.T, c *cluster, s *Server) {
			c.want(t, s, "", "us-east", reasonGood, us1, us2)
			c.want(t, s, "ap-south", "ap-south", reasonGood, ap1, ap2)
		},
		"only ready nodes": func(t *testing.T, c *cluster, s *Server) {
			c.members[0].State = region.Draining
			c.show()
			c.want(t, s, "", "us-east", reasonGood, us2)
			c.set("us-east", state(region.Warming))
			c.want(t, s, "", "eu-west", reasonGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", reasonGood, eu1, eu2)
		},
		"a lost region": func(t *testing.T, c *cluster, s *Server) {
			s.refresh()
			c.set("us-east", nil)
			c.want(t, s, "", "eu-west", reasonGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", reasonGood, eu1, eu2)
		},
		"a region that is not in the order comes last": func(t *testing.T, c *cluster, s *Server) {
			c.set("us-east", nil)
			c.set("eu-west", nil)
			c.want(t, s, "", "ap-south", reasonGood, ap1, ap2)
		},
		"an evacuated region whose nodes do not know yet": func(t *testing.T, c *cluster, s *Server) {
			c.evacuated = []region.Name{"us-east"}
			c.want(t, s, "", "eu-west", reasonGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", reasonGood, eu1, eu2)
		},
		"a region whose database commits nothing": func(t *testing.T, c *cluster, s *Server) {
			c.stuck = []region.Name{"us-east"}
			c.want(t, s, "", "eu-west", reasonGood, eu1, eu2)
			c.want(t, s, "us-east", "us-east", reasonGood, us1, us2)
			c.stuck = []region.Name{"us-east", "eu-west", "ap-south"}
			c.want(t, s, "", "us-east", reasonReady, us1, us2)
		},
		"nodes that report that writes to their own region fail": func(t *testing.T, c *cluster, s *Server) {
			stuck := func(m *region.Member) { m.Load.HomeStuck = true }
			stuck(&c.members[0])
			c.show()
			c.want(t, s, "", "us-east", reasonGood, us2)
			c.want(t, s, "us-east", "us-east", reasonGood, us1, us2)
			c.set("us-east", stuck)
			c.want(t, s, "", "eu-west", reasonGood, eu1, eu2)
			c.want(t, s, "us-east", "us-east", reasonGood, us1, us2)
			c.set("eu-west", stuck)
			c.set("ap-south", stuck)
			c.want(t, s, "", "us-east", reasonReady, us1, us2)
			c.set("us-east", func(m *region.Member) { m.Load.DatabaseAway = true })
			c.want(t, s, "", "eu-west", reasonReady, eu1, eu2)
		},
		"nodes that do not reach their database": func(t *testing.T, c *cluster, s *Server) {
			away := func(m *region.Member) { m.Load.DatabaseAway = true }
			away(&c.members[0])
			c.show()
			c.want(t, s, "", "us-east", reasonGood, us2)
			c.set("us-east", away)
			c.want(t, s, "", "eu-west", reasonGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", reasonGood, eu1, eu2)
			c.set("eu-west", away)
			c.set("ap-south", away)
			c.want(t, s, "", "us-east", reasonReady, us1, us2)
			c.want(t, s, "eu-west", "eu-west", reasonReady, eu1, eu2)
		},
		"nodes that do not answer calls": func(t *testing.T, c *cluster, s *Server) {
			c.suspects = []string{"us-east-b"}
			c.want(t, s, "", "us-east", reasonGood, us1)
			c.suspects = append(c.suspects, "us-east-a")
			c.want(t, s, "", "eu-west", reasonGood, eu1, eu2)
		},
		"no node is ready": func(t *testing.T, c *cluster, s *Server) {
			s.refresh()
			c.set("us-east", nil)
			c.set("eu-west", state(region.Warming))
			c.set("ap-south", state(region.Draining))
			c.want(t, s, "", "us-east", reasonLast, us1, us2)
			c.want(t, s, "eu-west", "eu-west", reasonLast, eu1, eu2)
			c.evacuated = []region.Name{"us-east"}
			c.want(t, s, "", "eu-west", reasonLast, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", reasonLast, eu1, eu2)
			c.evacuated = []region.Name{"us-east", "eu-west", "ap-south"}
			c.want(t, s, "", "us-east", reasonLast, us1, us2)
		},
		"the last known addresses are the last ready ones": func(t *testing.T, c *cluster, s *Server) {
			s.refresh()
			c.members[0].State = region.Draining
			c.show()
			s.refresh()
			c.set("us-east", nil)
			c.set("eu-west", nil)
			c.set("ap-south", nil)
			c.want(t, s, "", "us-east", reasonLast, us2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster()
			test(t, c, mustNew(t, c))
		})
	}
}

func TestNoNodeWasEverReady(t *testing.T) {
	c := &cluster{}
	s := mustNew(t, c)
	c.want(t, s, "", "", "")
	c.want(t, s, "us-east", "", "")
}

func TestNearestRegionComesFirst(t *testing.T) {
	c := newCluster()
	s := mustNew(t, c)
	p := s.current.Load()
	if got := p.forApex([]region.Name{"mars", "ap-south"}, netip.Addr.Is4); got.region != "ap-south" {
		t.Errorf("near to ap-south the answer is %s", got.region)
	}
	c.stuck = []region.Name{"ap-south"}
	s.refresh()
	if got := s.current.Load().forApex([]region.Name{"ap-south"}, netip.Addr.Is4); got.region != "us-east" {
		t.Errorf("near to ap-south, whose database is stuck, the answer is %s", got.region)
	}
}

// TestSharedAddressIsAnsweredOnce covers a load balancer whose addresses all nodes of a region have.
func TestSharedAddressIsAnsweredOnce(t *testing.T) {
	c := newCluster()
	balancer := addrs("203.0.113.1", "203.0.113.2")
	c.set("us-east", func(m *region.Member) { m.PublicAddrs = balancer })
	if got := mustNew(t, c).current.Load().forApex(nil, netip.Addr.Is4); !slices.Equal(got.addrs, balancer) {
		t.Errorf("the answer is %v, want %v", got.addrs, balancer)
	}
}

func TestNamesOutlastTheirRegions(t *testing.T) {
	c := newCluster()
	s := mustNew(t, c, func(_ *Config, d *Deps) {
		d.Regions = func() []region.Name { return []region.Name{"in-the-database"} }
	})
	c.set("ap-south", nil)
	s.refresh()
	s.refresh()
	want := []region.Name{"us-east", "eu-west", "ap-south", "in-the-database"}
	if got := s.current.Load().order; !slices.Equal(got, want) {
		t.Errorf("the names are %v, want %v", got, want)
	}
}
