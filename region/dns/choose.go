package dns

import (
	"net/netip"
	"slices"

	"github.com/punchclock/punchclock/region"
)

// regionHealth has the addresses of a region's nodes, by the health of the nodes.
type regionHealth struct {
	// good: the node is ready, reaches its database and answers calls.
	good []netip.Addr
	// commits: the node is good, and writes to its own region do not fail.
	commits []netip.Addr
	// ready: the node is ready.
	ready []netip.Addr
	// lastKnown is the last value of ready that was not empty.
	lastKnown []netip.Addr
	evacuated bool // all lists but lastKnown are empty
}

// snapshot has the health of all regions at one moment. It is immutable.
type snapshot struct {
	order   []region.Name // the configured regions, then the others by name
	regions map[region.Name]regionHealth
}

// The reasons for an answer.
const (
	reasonGood  = "good"
	reasonReady = "ready" // every region is degraded
	reasonLast  = "last"  // no node is ready
)

// choice is a region and its addresses for an answer.
type choice struct {
	region region.Name
	reason string
	addrs  []netip.Addr
}

// family reports whether an address is of the requested family.
type family func(netip.Addr) bool

// forApex chooses for clock.<zone>. The near regions come before all others.
func (p *snapshot) forApex(near []region.Name, of family) choice {
	return p.choose(near, of, func(s regionHealth) []netip.Addr { return s.commits })
}

// forRegion chooses for a region's own name. A stuck database is no reason to choose another region: punches of its
// companies wait everywhere, and punches of other companies do not wait.
func (p *snapshot) forRegion(own region.Name, of family) choice {
	return p.choose([]region.Name{own}, of, func(s regionHealth) []netip.Addr { return s.good })
}

// choose walks the tiers from best to worst, and returns the first region that has addresses in that tier. The order is
// first, then the order of the snapshot. If no address has ever been known, the choice is empty.
//
// The preferred region is the first one that ever had addresses. If it ever had addresses of the requested family, only
// a region with such addresses may replace it, while there is one. Otherwise a name would lose its IPv6 addresses with
// its region. If it never had them, any region will do, because its clients use the other family.
func (p *snapshot) choose(first []region.Name, of family, best func(regionHealth) []netip.Addr) choice {
	order := slices.Concat(first, p.order)
	preferred := slices.IndexFunc(order, func(r region.Name) bool { return len(p.regions[r].lastKnown) > 0 })
	if preferred < 0 {
		return choice{}
	}
	either := func(netip.Addr) bool { return true }
	if !slices.ContainsFunc(p.regions[order[preferred]].lastKnown, of) {
		of = either
	}
	good := func(s regionHealth) []netip.Addr { return s.good }
	ready := func(s regionHealth) []netip.Addr { return s.ready }
	lastKnown := func(s regionHealth) []netip.Addr { return s.lastKnown }
	inService := func(s regionHealth) []netip.Addr {
		if s.evacuated {
			return nil
		}
		return s.lastKnown
	}
	for _, tier := range []struct {
		reason string
		addrs  func(regionHealth) []netip.Addr
		of     family
	}{
		{reasonGood, best, of},
		{reasonReady, good, of},
		{reasonReady, ready, of},
		{reasonGood, best, either}, // the other family reaches a node
		{reasonReady, good, either},
		{reasonReady, ready, either},
		{reasonLast, inService, of},
		{reasonLast, lastKnown, of},
		{reasonLast, inService, either},
		{reasonLast, lastKnown, either},
	} {
		for _, name := range order {
			if addrs := tier.addrs(p.regions[name]); slices.ContainsFunc(addrs, tier.of) {
				return choice{name, tier.reason, addrs}
			}
		}
	}
	return choice{}
}

// maxRegions limits the memory of removed regions.
const maxRegions = 256

// newSnapshot returns the snapshot after before, which is nil for the first one.
func newSnapshot(before *snapshot, configured []region.Name, d Deps) *snapshot {
	p := &snapshot{regions: make(map[region.Name]regionHealth)}
	for _, name := range configured {
		p.regions[name] = regionHealth{}
	}
	view := d.Cluster.Snapshot()
	names := view.Regions()
	if d.Regions != nil {
		names = append(names, d.Regions()...)
	}
	for _, name := range names {
		p.regions[name] = regionHealth{}
	}
	if before != nil {
		for name, s := range before.regions {
			if _, known := p.regions[name]; known || len(p.regions) < maxRegions {
				p.regions[name] = regionHealth{lastKnown: s.lastKnown}
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
		if slices.Contains(stuck, name) { // as this node sees it, whatever their nodes report
			s.commits = nil
		}
		p.regions[name] = s
	}
	p.order = orderOf(configured, p.regions)
	return p
}

// fill adds the addresses of the region's nodes.
func (s *regionHealth) fill(members []region.Member, suspects []string) {
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
		s.lastKnown = s.ready
	}
}

// union adds the missing addresses. All nodes may have the address of one load balancer.
func union(addrs, more []netip.Addr) []netip.Addr {
	for _, a := range more {
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

func orderOf(configured []region.Name, regions map[region.Name]regionHealth) []region.Name {
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
