package dns

import (
	"net/netip"
	"slices"

	"github.com/punchclock/punchclock/region"
)

// standing is how a region stands.
type standing struct {
	// good are the addresses of ready nodes that reach their database and
	// answer calls.
	good []netip.Addr
	// commits are those of good nodes that commit to their own region, or have
	// nothing to commit.
	commits []netip.Addr
	// ready are those of all ready nodes.
	ready []netip.Addr
	// last are those that ready was when it last was not empty.
	last      []netip.Addr
	evacuated bool // all of these but last are empty
}

// plan is how all regions stood at one moment. It is not changed.
type plan struct {
	order   []region.Name // the configured ones, then the others by name
	regions map[region.Name]standing
}

// Why an answer was chosen.
const (
	whyGood  = "good"
	whyReady = "ready" // there is a better state, which no region is in
	whyLast  = "last"  // nobody is ready
)

// choice is whose addresses are answered.
type choice struct {
	region region.Name
	why    string
	addrs  []netip.Addr
}

// family says whether an address is of the kind that is asked for.
type family func(netip.Addr) bool

// general chooses for clock.<zone>, with some regions before all others.
func (p *plan) general(near []region.Name, of family) choice {
	return p.choose(near, of, func(s standing) []netip.Addr { return s.commits })
}

// regional chooses for a region's own name. That its database is stuck is no
// reason to leave it: punches of its companies are stuck everywhere, and those
// of other companies are not.
func (p *plan) regional(own region.Name, of family) choice {
	return p.choose([]region.Name{own}, of, func(s standing) []netip.Addr { return s.good })
}

// choose returns the first region, of those first and then in order, with the
// best addresses that any region has; no addresses when none has been known.
// If the region that is meant to answer has had addresses of the family, so must
// the one that does, while any has: else a name would lose them when the next
// region has none. If it never had, another region is no better for whoever
// speaks both families.
func (p *plan) choose(first []region.Name, of family, best func(standing) []netip.Addr) choice {
	order := slices.Concat(first, p.order)
	meant := slices.IndexFunc(order, func(r region.Name) bool { return len(p.regions[r].last) > 0 })
	if meant < 0 {
		return choice{}
	}
	either := func(netip.Addr) bool { return true }
	if !slices.ContainsFunc(p.regions[order[meant]].last, of) {
		of = either
	}
	good := func(s standing) []netip.Addr { return s.good }
	ready := func(s standing) []netip.Addr { return s.ready }
	last := func(s standing) []netip.Addr { return s.last }
	inService := func(s standing) []netip.Addr {
		if s.evacuated {
			return nil
		}
		return s.last
	}
	for _, tier := range []struct {
		why   string
		addrs func(standing) []netip.Addr
		of    family
	}{
		{whyGood, best, of},
		{whyReady, good, of},
		{whyReady, ready, of},
		{whyGood, best, either}, // the other family leads to somebody
		{whyReady, good, either},
		{whyReady, ready, either},
		{whyLast, inService, of},
		{whyLast, last, of},
		{whyLast, inService, either},
		{whyLast, last, either},
	} {
		for _, name := range order {
			if addrs := tier.addrs(p.regions[name]); slices.ContainsFunc(addrs, tier.of) {
				return choice{name, tier.why, addrs}
			}
		}
	}
	return choice{}
}

// maxRegions bounds what is remembered of regions that are gone.
const maxRegions = 256

// next makes the plan that follows before, nil for the first.
func next(before *plan, configured []region.Name, d Deps) *plan {
	p := &plan{regions: make(map[region.Name]standing)}
	for _, name := range configured {
		p.regions[name] = standing{}
	}
	view := d.Cluster.Snapshot()
	names := view.Regions()
	if d.Regions != nil {
		names = append(names, d.Regions()...)
	}
	for _, name := range names {
		p.regions[name] = standing{}
	}
	if before != nil {
		for name, s := range before.regions {
			if _, known := p.regions[name]; known || len(p.regions) < maxRegions {
				p.regions[name] = standing{last: s.last}
			}
		}
	}
	var stuck []region.Name
	if d.Stuck != nil {
		stuck = d.Stuck()
	}
	var suspects []string
	if d.Suspects != nil {
		suspects = d.Suspects()
	}
	for name, s := range p.regions {
		s.evacuated = d.Evacuated != nil && d.Evacuated(name)
		if !s.evacuated {
			s.fill(view.In(name), suspects)
		}
		if slices.Contains(stuck, name) { // for this node, whatever they say
			s.commits = nil
		}
		p.regions[name] = s
	}
	p.order = orderOf(configured, p.regions)
	return p
}

// fill takes in the region's nodes.
func (s *standing) fill(members []region.Member, suspects []string) {
	for _, m := range members {
		if m.State != region.Ready {
			continue
		}
		s.ready = union(s.ready, m.PublicAddrs)
		if !m.Load.DatabaseAway && !slices.Contains(suspects, m.Node) {
			s.good = union(s.good, m.PublicAddrs)
			if !m.Load.HomeStuck {
				s.commits = union(s.commits, m.PublicAddrs)
			}
		}
	}
	if len(s.ready) > 0 {
		s.last = s.ready
	}
}

// union adds addresses that are not there: all nodes may be behind one balancer.
func union(addrs, more []netip.Addr) []netip.Addr {
	for _, a := range more {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

func orderOf(configured []region.Name, regions map[region.Name]standing) []region.Name {
	order := slices.Clone(configured)
	var others []region.Name
	for name := range regions {
		if !slices.Contains(configured, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return append(order, others...)
}
