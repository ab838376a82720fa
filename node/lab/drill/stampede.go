package drill

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
)

const (
	// overload is the load relative to the capacity: two nodes that were three quarters full, on one of them.
	overload = 1.5
	// overloadFor is long enough for queues to fill and for callers to lose their patience several times.
	overloadFor = 20 * time.Second
	// killAfter lets the nodes find their limit before the region dies.
	killAfter = 5 * time.Second
	// handOver is the time after the kill that does not count for the goodput. The bound of kill-region is 2 s.
	handOver = 2 * time.Second
)

// stampede overloads one node, and then kills a region under overload. It returns while the region is dead.
func stampede(ctx context.Context, s *target) error {
	if err := s.splitProcessors(); err != nil {
		return err
	}
	if err := stampedeOnNode(ctx, s); err != nil {
		return err
	}
	return stampedeOnRest(ctx, s)
}

// stampedeOnNode sends the whole load of the victim to one of its nodes, as a name in DNS with one address does.
func stampedeOnNode(ctx context.Context, s *target) error {
	c := crowd{target: s, entries: s.state.Entries(), companies: visited(s.state.Companies, s.victim)}
	for i := range c.entries {
		c.entries[i].Endpoints = []string{s.nodes()[0].PublicURL}
	}
	s.say("measuring the capacity of one node")
	capacity, err := c.capacity(ctx)
	if err != nil {
		return err
	}
	if err := c.stampede(ctx, "the load of a region on one node", capacity, overloadFor, 0); err != nil {
		return err
	}
	return c.calm(ctx, capacity)
}

// visited returns the companies of a region, and of the others a third as many: some employees travel.
func visited(companies []cluster.Company, region string) (some []cluster.Company) {
	own := only(companies, func(c *cluster.Company) bool { return c.Home == region })
	others := only(companies, func(c *cluster.Company) bool { return c.Home != region })
	return append(own, others[:min(len(others), (len(own)+2)/3)]...)
}

// stampedeOnRest measures the capacity of the nodes outside the victim. Then it kills the victim under more load than this
// capacity.
func stampedeOnRest(ctx context.Context, s *target) error {
	if err := errors.Join(killRegion(ctx, s), s.missed(ctx)); err != nil {
		return err
	}
	s.say("measuring the capacity of the nodes outside %s", s.victim)
	entries := s.state.Entries()
	rest := crowd{target: s, entries: withoutNodes(entries, s.victim), companies: s.state.Companies}
	capacity, err := rest.capacity(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(restartRegion(ctx, s), s.whole(ctx), s.splitProcessors()); err != nil {
		return err
	}
	all := crowd{target: s, entries: entries, companies: s.state.Companies}
	var killer sync.WaitGroup
	defer killer.Wait()
	var killed error
	killer.Go(func() {
		if cluster.Pause(ctx, overloadLead+killAfter) {
			s.say("killing %s", s.victim)
			killed = killRegion(ctx, s)
		}
	})
	err = all.stampede(ctx, "a region killed", capacity, killAfter+overloadFor, killAfter+handOver)
	killer.Wait()
	return errors.Join(err, killed)
}

// withoutNodes leads the callers of a region to the next one, as DNS does when the region is dead.
func withoutNodes(entries []cluster.Entry, region string) []cluster.Entry {
	entries = slices.Clone(entries)
	for i := range entries {
		if entries[i].Region == region {
			entries[i].Endpoints = entries[(i+1)%len(entries)].Endpoints
		}
	}
	return entries
}

// endStampede gives all processors back and starts the region again.
func endStampede(ctx context.Context, s *target) error {
	err := restartRegion(ctx, s)
	state := s.environment.State()
	return errors.Join(err, s.processors.Join(load.ProcessesOf(&state)))
}

// splitProcessors keeps the generator away from the processors of nodes and database. Both would share them otherwise, and
// a generator of twice the load would lower the goodput.
func (s *target) splitProcessors() (err error) {
	if s.processors == nil {
		p, err := load.OwnProcessors()
		if err != nil {
			return err
		}
		s.processors = &p
	}
	state := s.environment.State()
	split, err := s.processors.Split(load.ProcessesOf(&state))
	if err == nil && !split && s.overloads == nil {
		s.notes = append(s.notes, "the generator shares the processors of nodes and database, so the goodput says little")
	}
	return err
}
