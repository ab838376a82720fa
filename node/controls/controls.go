// Package controls keeps the operators' switches of a node up to date. Controls collects switches from the database and
// from gossip, sets new ones, and tells the health monitor whether this node's own region is evacuated. It does not decide
// what a switch means otherwise: the router, DNS and package admission read the same list.
package controls

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/node/health"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Store keeps the switches in the database.
type Store interface {
	Switches(ctx context.Context) ([]region.Switch, error)
	// SetSwitches gives switches of one kind a version, and returns them as they were stored. Its refusals are
	// *punch.Error; after any other error the database may have stored the switches or not.
	SetSwitches(ctx context.Context, kind region.SwitchKind, list []region.Switch) ([]region.Switch, error)
}

// Config says how Controls read. DefaultConfig explains the values.
type Config struct {
	Region      region.Name // this node's own
	PollEvery   time.Duration
	PollTimeout time.Duration
}

// DefaultConfig returns the configuration for a node of the region.
func DefaultConfig(own region.Name) Config {
	return Config{
		Region: own,
		// Gossip is faster. Polling reaches the nodes that a gossip message missed, within the two seconds that are
		// promised to the operator.
		PollEvery: time.Second,
		// If the database does not answer, the next poll may find it again.
		PollTimeout: time.Second,
	}
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Region == "":
		return errors.New("controls: Region is empty")
	case c.PollEvery <= 0:
		return fmt.Errorf("controls: PollEvery must be more than 0, is %s", c.PollEvery)
	case c.PollTimeout <= 0:
		return fmt.Errorf("controls: PollTimeout must be more than 0, is %s", c.PollTimeout)
	default:
		return nil
	}
}

// Deps is what Controls work with.
type Deps struct {
	Store Store
	// Known is the node's list of switches, which the router and DNS read. Controls add to it.
	Known   *region.Switches
	Monitor *health.Monitor
	// Broadcast tells the other nodes by gossip.
	Broadcast func(s region.Switch)
	// Members returns the cluster's nodes as this node sees them.
	Members func() []region.Member
	Log     *slog.Logger
	Clock   func() time.Time // says whether an evacuation has ended
}

// ErrNotConfirmed is returned by Set if the database did not answer: it may have stored the switches or not.
var ErrNotConfirmed = errors.New("the database did not confirm the change")

// Controls is safe for concurrent use.
type Controls struct {
	cfg  Config
	deps Deps

	applying sync.Mutex // held while the monitor is told: of two answers, the later one must stay
	lastRead atomic.Pointer[time.Time]
	// merged holds a token while a merged switch waits to be applied.
	merged chan struct{}

	running sync.WaitGroup
	stop    context.CancelFunc // nil until Start has succeeded
}

// New returns Controls that do not read yet.
func New(cfg Config, deps Deps) (*Controls, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Controls{cfg: cfg, deps: deps, merged: make(chan struct{}, 1)}, nil
}

// startRetry is the pause between two attempts to read the switches before the node is ready.
const startRetry = time.Second

// Start reads the switches, so that a node of an evacuated region does not come up ready, and keeps reading until
// Close. It waits for the database: a node may start during a failover. It gives up when ctx ends.
func (c *Controls) Start(ctx context.Context) error {
	for {
		list, err := c.read(ctx)
		if err == nil {
			c.take(list)
			break
		}
		c.deps.Log.WarnContext(ctx, "the switches cannot be read from the database yet", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(startRetry):
		}
	}
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	// Two goroutines: a switch by gossip alone is for the time in which the database does not answer, so it must
	// not wait for a poll.
	c.running.Go(func() { c.applyMerged(follow) })
	c.running.Go(func() { c.poll(follow) })
	return nil
}

// Close ends the reading. It may be called without Start.
func (c *Controls) Close() {
	if c.stop != nil {
		c.stop()
		c.running.Wait()
	}
}

// Merge takes a switch from gossip into the list, and reports whether it changed the list. It does not wait, and
// calls neither gossip nor the monitor: memberlist's goroutines call it.
func (c *Controls) Merge(s region.Switch) (changed bool) {
	if !c.deps.Known.Merge(s) {
		return false
	}
	c.log(s)
	select {
	case c.merged <- struct{}{}:
	default: // the token that waits will do for this switch, too
	}
	return true
}

// LastRead returns when the database was last read with success, or the zero time. This read goes on at night, so it
// tells whether the morning's punches would find a database.
func (c *Controls) LastRead() time.Time {
	if at := c.lastRead.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Set stores switches of one kind, and tells the other nodes. The database decides whether they may be. By gossip alone
// nothing is stored: the switches hold on the nodes that hear of them.
func (c *Controls) Set(ctx context.Context, list []region.Switch, gossipOnly bool) ([]region.Switch, error) {
	set := slices.Clone(list)
	for i := range set {
		if s := &set[i]; s.Kind == region.Evacuation && s.Level > 0 && !c.othersReady(s.Region) {
			return nil, fmt.Errorf("no other region has a ready node in service: evacuating %s would leave no region", s.Region)
		}
		set[i].Version = c.deps.Known.Next()
	}
	if !gossipOnly {
		stored, err := c.deps.Store.SetSwitches(ctx, set[0].Kind, set)
		if _, refused := errors.AsType[*punch.Error](err); err != nil && !refused {
			return nil, fmt.Errorf("%w: %w", ErrNotConfirmed, err)
		}
		if err != nil {
			return nil, err
		}
		set = stored
	}
	c.take(set)
	for _, s := range set {
		c.deps.Broadcast(s)
	}
	return set, nil
}

func (c *Controls) othersReady(leaving region.Name) bool {
	now := c.deps.Clock()
	return slices.ContainsFunc(c.deps.Members(), func(m region.Member) bool {
		return m.Region != leaving && m.State == region.Ready && !c.deps.Known.Evacuated(m.Region, now)
	})
}

func (c *Controls) read(ctx context.Context) ([]region.Switch, error) {
	list, err := c.deps.Store.Switches(ctx)
	if err == nil {
		now := time.Now() // not the node's clock: this is for an age
		c.lastRead.Store(&now)
	}
	return list, err
}

func (c *Controls) applyMerged(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.merged:
			c.apply()
		}
	}
}

func (c *Controls) poll(ctx context.Context) {
	tick := time.NewTicker(c.cfg.PollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, c.cfg.PollTimeout)
		list, err := c.read(attempt)
		cancel()
		if err != nil {
			list = nil // the known switches hold; the health watcher reports a database that is away
		}
		c.take(list) // also without news: an evacuation may have ended by itself
	}
}

// take merges switches, and acts on this node's own region.
func (c *Controls) take(list []region.Switch) {
	for _, s := range list {
		if c.deps.Known.Merge(s) {
			c.log(s)
		}
	}
	c.apply()
}

func (c *Controls) log(s region.Switch) {
	c.deps.Log.Info(s.Kind.String(), "target", string(s.Region), "level", s.Level, "version", s.Version, "until", s.Until)
}

func (c *Controls) apply() {
	c.applying.Lock()
	defer c.applying.Unlock()
	reason := ""
	if c.deps.Known.Evacuated(c.cfg.Region, c.deps.Clock()) {
		reason = "the region is evacuated"
	}
	c.deps.Monitor.Set(health.Evacuated, reason)
}
