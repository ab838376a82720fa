package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/controls"
	"github.com/punchclock/punchclock/node/health"
	"github.com/punchclock/punchclock/node/zone"
	"github.com/punchclock/punchclock/region"
)

var errNoOperator = errors.New("this token is not an operator's")

func (n *Node) operator(ctx context.Context, token string) error {
	// While the node starts, its parts are missing, or not visible for this goroutine.
	if n.monitor.Has(health.Starting) {
		return errors.New("the node is starting")
	}
	identity, err := n.verifier.Verify(ctx, token)
	if err == nil && !identity.MayOperate() {
		err = errNoOperator
	}
	return err
}

// set sets an operator's switch, for every region of the database if it names none.
func (n *Node) set(ctx context.Context, s region.Switch, gossipOnly bool) ([]region.Switch, error) {
	if s.Level > region.PunchesOnly {
		return nil, fmt.Errorf("the level must be 0 to %d, is %d", region.PunchesOnly, s.Level)
	}
	list := []region.Switch{s}
	if s.Region == "" {
		list = nil
		for _, s.Region = range n.regions.all() {
			list = append(list, s)
		}
	}
	list, err := n.controls.Set(ctx, list, gossipOnly)
	if errors.Is(err, controls.ErrNotConfirmed) {
		err = fmt.Errorf("%w: %w", adminapi.ErrNotConfirmed, err)
	}
	return list, err
}

// status is the cluster as this node sees it.
func (n *Node) status(ctx context.Context) adminapi.Status {
	s := adminapi.Status{Node: n.self.Node, Region: string(n.self.Region), TimeZones: zone.Version()}
	gate := n.gate.State()
	s.Admission = adminapi.Admission{
		Limit: gate.Limit, Wait: gate.Wait, Refused: gate.RefusedShare, Largest: gate.Largest, LargestShare: gate.LargestShare,
	}
	for _, b := range n.dispatch.Batchers() {
		s.Homes = append(s.Homes, adminapi.Home{Region: string(b.Home), Way: b.Kind, Waiting: b.Waiting, CircuitOpen: b.Open})
	}
	view := n.cluster.Snapshot()
	names := view.Regions()
	for _, name := range n.regions.all() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		s.Regions = append(s.Regions, n.regionStatus(name, view.In(name)))
	}
	open := n.dispatch.OpenBreakers()
	for _, m := range view.Members() {
		s.Nodes = append(s.Nodes, adminapi.Member{
			Name: m.Node, Region: string(m.Region), State: m.State.String(), InFlight: m.Load.InFlight, Capacity: m.Load.Capacity,
			Weight: m.Weight, DatabaseAway: m.Load.DatabaseAway, CircuitOpen: slices.Contains(open, m.Node), PublicURL: m.PublicURL,
			Level: m.Load.Level,
		})
	}
	n.addSwitchedCompanies(ctx, &s)
	return s
}

const (
	// switchedShown bounds the companies in a status: a screen or two. `punchclock company list` shows all.
	switchedShown = 100
	// switchedTimeout bounds the read of these companies. The rest of the status must be shown without a database.
	switchedTimeout = 2 * time.Second
)

// addSwitchedCompanies reads the companies that an operator has suspended or limited. They come from the database: a
// node's directory learns of a change with the company's next punch.
func (n *Node) addSwitchedCompanies(ctx context.Context, s *adminapi.Status) {
	ctx, cancel := context.WithTimeout(ctx, switchedTimeout)
	defer cancel()
	list, err := n.db.SwitchedCompanies(ctx, switchedShown)
	if err != nil {
		s.CompaniesUnknown = "the database did not answer"
		n.log.WarnContext(ctx, "could not read the suspended and limited companies", "error", err)
	}
	for i := range list {
		c := &list[i]
		suspended := c.SuspendedAt(n.clock())
		if suspended || c.RateLimit > 0 {
			shown := adminapi.Company{ID: c.ID, Suspended: suspended, RateLimit: c.RateLimit, By: c.SwitchedBy}
			if suspended {
				shown.Until = c.SuspendedUntil
			}
			s.Companies = append(s.Companies, shown)
		}
	}
}

func (n *Node) regionStatus(name region.Name, members []region.Member) adminapi.Region {
	r := adminapi.Region{Name: string(name), Nodes: len(members)}
	now := n.clock()
	e := n.switches.Get(region.Evacuation, name)
	r.Version, r.Evacuated = e.Version, e.LevelAt(now) > 0
	if r.Evacuated && !e.Until.IsZero() {
		r.Until = &e.Until
	}
	d := n.switches.Get(region.Degradation, name)
	if r.Level = d.LevelAt(now); r.Level > 0 && !d.Until.IsZero() {
		r.LevelUntil = &d.Until
	}
	for _, m := range members {
		if m.State == region.Ready {
			r.Ready++
		}
	}
	return r
}

// stuckHomes returns the homes to which this node cannot commit.
func (n *Node) stuckHomes() (homes []region.Name) {
	for _, b := range n.dispatch.Batchers() {
		if b.Kind == "database" && b.Open {
			homes = append(homes, b.Home)
		}
	}
	return homes
}

// evacuated reports whether the operator has the region out of service.
func (n *Node) evacuated(r region.Name) bool { return n.switches.Evacuated(r, n.clock()) }
