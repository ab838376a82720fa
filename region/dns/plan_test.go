package dns

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/punchclock/punchclock/region"
)

// want asks for both names' choices.
func (c *cluster) want(t *testing.T, s *Server, name region.Name, wantRegion region.Name, why string, addrs ...string) {
	t.Helper()
	s.look()
	p := s.plan.Load()
	got := p.general(nil, netip.Addr.Is4)
	if name != "" {
		got = p.regional(name, netip.Addr.Is4)
	}
	var list []string
	for _, a := range got.addrs {
		if a.Is4() {
			list = append(list, a.String())
		}
	}
	slices.Sort(list)
	if got.region != wantRegion || got.why != why || !slices.Equal(list, addrs) {
		t.Errorf("%q is answered %s (%s) %v, want %s (%s) %v", name, got.region, got.why, list, wantRegion, why, addrs)
	}
}

func TestWhoIsAnswered(t *testing.T) {
	state := func(s region.State) func(*region.Member) { return func(m *region.Member) { m.State = s } }
	const us1, us2, eu1, eu2, ap1, ap2 = "192.0.1.1", "192.0.1.2", "192.0.2.1", "192.0.2.2", "192.0.3.1", "192.0.3.2"
	for name, test := range map[string]func(*testing.T, *cluster, *Server){
		"the configured order": func(t *testing.T, c *cluster, s *Server) {
			c.want(t, s, "", "us-east", whyGood, us1, us2)
			c.want(t, s, "ap-south", "ap-south", whyGood, ap1, ap2)
		},
		"only ready nodes": func(t *testing.T, c *cluster, s *Server) {
			c.members[0].State = region.Draining
			c.show()
			c.want(t, s, "", "us-east", whyGood, us2)
			c.set("us-east", state(region.Warming))
			c.want(t, s, "", "eu-west", whyGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", whyGood, eu1, eu2)
		},
		"a lost region": func(t *testing.T, c *cluster, s *Server) {
			s.look()
			c.set("us-east", nil)
			c.want(t, s, "", "eu-west", whyGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", whyGood, eu1, eu2)
		},
		"a region that is not in the order comes after": func(t *testing.T, c *cluster, s *Server) {
			c.set("us-east", nil)
			c.set("eu-west", nil)
			c.want(t, s, "", "ap-south", whyGood, ap1, ap2)
		},
		"an evacuated region, though its nodes do not know yet": func(t *testing.T, c *cluster, s *Server) {
			c.evacuated = []region.Name{"us-east"}
			c.want(t, s, "", "eu-west", whyGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", whyGood, eu1, eu2)
		},
		"a region whose database commits nothing": func(t *testing.T, c *cluster, s *Server) {
			c.stuck = []region.Name{"us-east"}
			c.want(t, s, "", "eu-west", whyGood, eu1, eu2)
			c.want(t, s, "us-east", "us-east", whyGood, us1, us2)
			c.stuck = []region.Name{"us-east", "eu-west", "ap-south"}
			c.want(t, s, "", "us-east", whyReady, us1, us2)
		},
		"nodes that say that they commit nothing to their own region": func(t *testing.T, c *cluster, s *Server) {
			stuck := func(m *region.Member) { m.Load.HomeStuck = true }
			stuck(&c.members[0])
			c.show()
			c.want(t, s, "", "us-east", whyGood, us2)
			c.want(t, s, "us-east", "us-east", whyGood, us1, us2)
			c.set("us-east", stuck)
			c.want(t, s, "", "eu-west", whyGood, eu1, eu2)
			c.want(t, s, "us-east", "us-east", whyGood, us1, us2)
			c.set("eu-west", stuck)
			c.set("ap-south", stuck)
			c.want(t, s, "", "us-east", whyReady, us1, us2)
			c.set("us-east", func(m *region.Member) { m.Load.DatabaseAway = true })
			c.want(t, s, "", "eu-west", whyReady, eu1, eu2)
		},
		"nodes that do not reach their database": func(t *testing.T, c *cluster, s *Server) {
			away := func(m *region.Member) { m.Load.DatabaseAway = true }
			away(&c.members[0])
			c.show()
			c.want(t, s, "", "us-east", whyGood, us2)
			c.set("us-east", away)
			c.want(t, s, "", "eu-west", whyGood, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", whyGood, eu1, eu2)
			c.set("eu-west", away)
			c.set("ap-south", away)
			c.want(t, s, "", "us-east", whyReady, us1, us2)
			c.want(t, s, "eu-west", "eu-west", whyReady, eu1, eu2)
		},
		"nodes that do not answer calls": func(t *testing.T, c *cluster, s *Server) {
			c.suspects = []string{"us-east-b"}
			c.want(t, s, "", "us-east", whyGood, us1)
			c.suspects = append(c.suspects, "us-east-a")
			c.want(t, s, "", "eu-west", whyGood, eu1, eu2)
		},
		"nobody is ready": func(t *testing.T, c *cluster, s *Server) {
			s.look()
			c.set("us-east", nil)
			c.set("eu-west", state(region.Warming))
			c.set("ap-south", state(region.Draining))
			c.want(t, s, "", "us-east", whyLast, us1, us2)
			c.want(t, s, "eu-west", "eu-west", whyLast, eu1, eu2)
			c.evacuated = []region.Name{"us-east"}
			c.want(t, s, "", "eu-west", whyLast, eu1, eu2)
			c.want(t, s, "us-east", "eu-west", whyLast, eu1, eu2)
			c.evacuated = []region.Name{"us-east", "eu-west", "ap-south"}
			c.want(t, s, "", "us-east", whyLast, us1, us2)
		},
		"the last that was ready is what it was last": func(t *testing.T, c *cluster, s *Server) {
			s.look()
			c.members[0].State = region.Draining
			c.show()
			s.look()
			c.set("us-east", nil)
			c.set("eu-west", nil)
			c.set("ap-south", nil)
			c.want(t, s, "", "us-east", whyLast, us2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster()
			test(t, c, mustNew(t, c))
		})
	}
}

func TestNobodyWasEverReady(t *testing.T) {
	c := &cluster{}
	s := mustNew(t, c)
	c.want(t, s, "", "", "")
	c.want(t, s, "us-east", "", "")
}

func TestTheNearestRegionComesFirst(t *testing.T) {
	c := newCluster()
	s := mustNew(t, c)
	p := s.plan.Load()
	if got := p.general([]region.Name{"mars", "ap-south"}, netip.Addr.Is4); got.region != "ap-south" {
		t.Errorf("near to ap-south the answer is %s", got.region)
	}
	c.stuck = []region.Name{"ap-south"}
	s.look()
	if got := s.plan.Load().general([]region.Name{"ap-south"}, netip.Addr.Is4); got.region != "us-east" {
		t.Errorf("near to ap-south, whose database is stuck, the answer is %s", got.region)
	}
}

// One balancer before all nodes of a region has its addresses once.
func TestAnAddressIsAnsweredOnce(t *testing.T) {
	c := newCluster()
	balancer := addrs("203.0.113.1", "203.0.113.2")
	c.set("us-east", func(m *region.Member) { m.PublicAddrs = balancer })
	if got := mustNew(t, c).plan.Load().general(nil, netip.Addr.Is4); !slices.Equal(got.addrs, balancer) {
		t.Errorf("answered %v, want %v", got.addrs, balancer)
	}
}

func TestNamesStayWhenTheirRegionsAreGone(t *testing.T) {
	c := newCluster()
	s := mustNew(t, c, func(_ *Config, d *Deps) {
		d.Regions = func() []region.Name { return []region.Name{"in-the-database"} }
	})
	c.set("ap-south", nil)
	s.look()
	s.look()
	want := []region.Name{"us-east", "eu-west", "ap-south", "in-the-database"}
	if got := s.plan.Load().order; !slices.Equal(got, want) {
		t.Errorf("the names are %v, want %v", got, want)
	}
}
