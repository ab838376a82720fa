package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
	"github.com/punchclock/punchclock/region"
)

const (
	// pollSwitches is how often a node reads the operator's switches: gossip is
	// faster, and this is what holds when gossip missed one. Two seconds are
	// promised.
	pollSwitches = time.Second
	// pollTimeout leaves a database that does not answer: the next poll may
	// find it back.
	pollTimeout = time.Second
)

// startSwitches reads the switches before the node is ready, so that a node of
// an evacuated region does not come up ready, and keeps listening and reading.
func (n *Node) startSwitches(ctx context.Context) error {
	list, err := n.readSwitches(ctx)
	if err != nil {
		return err
	}
	n.learn(list)
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	following.Go(func() { n.hearSwitches(follow) })
	following.Go(func() { pollSwitch(follow, n.readSwitches, n.learn) })
	n.closer.add("switches", reserveForAll, func(context.Context) error {
		cancel()
		following.Wait()
		return nil
	})
	return nil
}

// readSwitches remembers that it worked. It is the one read of a table that goes
// on when nobody clocks in, and so tells at night whether the morning's punches
// would find a database.
func (n *Node) readSwitches(ctx context.Context) ([]region.Evacuation, error) {
	list, err := n.db.Evacuations(ctx)
	if err == nil {
		now := time.Now()
		n.switchesRead.Store(&now)
	}
	return list, err
}

// hearSwitches takes in what gossip brings. It waits for nothing else: an
// evacuation through gossip alone is for when the database does not answer.
func (n *Node) hearSwitches(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-n.switchNews:
			n.learn([]region.Evacuation{e})
		}
	}
}

// pollSwitch reads the switches again and again. Learning of none is not idle:
// an evacuation may have ended by itself.
func pollSwitch(ctx context.Context, read func(context.Context) ([]region.Evacuation, error), learn func([]region.Evacuation)) {
	tick := time.NewTicker(pollSwitches)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, pollTimeout)
		list, err := read(attempt)
		cancel()
		if err != nil { // what is known holds; the watch reports a database that is away
			list = nil
		}
		learn(list)
	}
}

// learn takes in switches from wherever, and acts on this node's own region.
func (n *Node) learn(list []region.Evacuation) {
	for _, e := range list {
		if n.switches.Learn(e) {
			n.log.Info("switch", "target", string(e.Region), "evacuated", e.On, "version", e.Version)
		}
	}
	n.evacuated.Lock() // two may learn at a time, and the later answer must stay
	defer n.evacuated.Unlock()
	reason := ""
	if n.switches.Evacuated(n.self.Region, time.Now()) {
		reason = "the region is evacuated"
	}
	if n.ready.set(topicEvacuated, reason) {
		n.tellState()
	}
}

// evacuate sets a switch: in the database first, which decides whether it may
// be, then by gossip. Through gossip alone it holds for a bounded time on the
// nodes that hear of it.
func (n *Node) evacuate(ctx context.Context, e region.Evacuation, gossipOnly bool) (region.Evacuation, error) {
	if e.On && !n.othersReady(e.Region) {
		return e, fmt.Errorf("no other region has a ready node in service: evacuating %s would leave none", e.Region)
	}
	e.Version = n.switches.Next()
	if !gossipOnly {
		stored, err := n.db.SetEvacuation(ctx, e)
		if _, refused := errors.AsType[*punch.Error](err); err != nil && !refused {
			return e, fmt.Errorf("%w: %w", adminapi.ErrNotConfirmed, err)
		}
		if err != nil {
			return e, err
		}
		e = stored
	}
	n.learn([]region.Evacuation{e})
	n.gossip.BroadcastSwitch(e)
	return e, nil
}

func (n *Node) othersReady(leaving region.Name) bool {
	now := time.Now()
	return slices.ContainsFunc(n.board.View().Members(), func(m region.Member) bool {
		return m.Region != leaving && m.State == region.Ready && !n.switches.Evacuated(m.Region, now)
	})
}

var errNoOperator = errors.New("this token is not an operator's")

func (n *Node) operator(ctx context.Context, token string) error {
	if n.ready.has(topicStart) { // its parts are not there yet, or not for this goroutine to see
		return errors.New("the node is starting")
	}
	identity, err := n.verifier.Verify(ctx, token)
	if err == nil && !identity.MayOperate() {
		err = errNoOperator
	}
	return err
}

// status is what this node believes of the cluster.
func (n *Node) status() adminapi.Status {
	now := time.Now()
	s := adminapi.Status{Node: n.self.Node, Region: string(n.self.Region), TimeZones: zone.Version()}
	view := n.board.View()
	open := n.dispatch.OpenCircuits()
	for _, l := range n.dispatch.Lanes() {
		s.Homes = append(s.Homes, adminapi.Home{Region: string(l.Home), Way: l.Way, Waiting: l.Waiting, CircuitOpen: l.Open})
	}
	names := view.Regions()
	for _, label := range n.labels.all() {
		if !slices.Contains(names, region.Name(label)) {
			names = append(names, region.Name(label))
		}
	}
	switches := n.switches.All()
	for _, name := range names {
		r := adminapi.Region{Name: string(name), Nodes: len(view.In(name))}
		for _, e := range switches {
			if e.Region == name {
				r.Version, r.Evacuated = e.Version, e.Holds(now)
				if r.Evacuated && !e.Until.IsZero() {
					r.Until = &e.Until
				}
			}
		}
		for _, m := range view.In(name) {
			if m.State == region.Ready {
				r.Ready++
			}
		}
		s.Regions = append(s.Regions, r)
	}
	for _, m := range view.Members() {
		s.Nodes = append(s.Nodes, adminapi.Member{
			Name: m.Node, Region: string(m.Region), State: m.State.String(), InFlight: m.Load.InFlight, Capacity: m.Load.Capacity,
			Weight: m.Weight, DatabaseAway: m.Load.DatabaseAway, CircuitOpen: slices.Contains(open, m.Node), PublicURL: m.PublicURL,
		})
	}
	return s
}
