// Package evacuation is the operator's switch that takes a region out of service. A Switch collects evacuations from
// the database and from gossip, sets new ones, and tells the health monitor whether this node's own region is
// evacuated. It does not decide where punches go instead: the router and DNS read the same list.
package evacuation

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

// Store keeps the evacuations in the database.
type Store interface {
	Evacuations(ctx context.Context) ([]region.Evacuation, error)
	// SetEvacuation gives the evacuation a version, and returns it as it was stored. Its refusals are *punch.Error; after
	// any other error the database may have stored the evacuation or not.
	SetEvacuation(ctx context.Context, e region.Evacuation) (region.Evacuation, error)
}

// Config says how a Switch reads. DefaultConfig explains the values.
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
		return errors.New("evacuation: Region is empty")
	case c.PollEvery <= 0:
		return fmt.Errorf("evacuation: PollEvery must be more than 0, is %s", c.PollEvery)
	case c.PollTimeout <= 0:
		return fmt.Errorf("evacuation: PollTimeout must be more than 0, is %s", c.PollTimeout)
	default:
		return nil
	}
}

// Deps is what a Switch works with.
type Deps struct {
	Store Store
	// Known is the node's list of evacuations, which the router and DNS read. The Switch adds to it.
	Known   *region.Evacuations
	Monitor *health.Monitor
	// Broadcast tells the other nodes by gossip.
	Broadcast func(e region.Evacuation)
	// Members returns the cluster's nodes as this node sees them.
	Members func() []region.Member
	Log     *slog.Logger
	Clock   func() time.Time // says whether an evacuation has ended
}

// ErrNotConfirmed is returned by Set if the database did not answer: it may have stored the evacuation or not.
var ErrNotConfirmed = errors.New("the database did not confirm the evacuation")

// Switch is safe for concurrent use.
type Switch struct {
	cfg  Config
	deps Deps

	applying sync.Mutex // held while the monitor is told: of two answers, the later one must stay
	lastRead atomic.Pointer[time.Time]
	// merged holds a token while a merged evacuation waits to be applied.
	merged chan struct{}

	running sync.WaitGroup
	stop    context.CancelFunc // nil until Start has succeeded
}

// New returns a Switch that does not read yet.
func New(cfg Config, deps Deps) (*Switch, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Switch{cfg: cfg, deps: deps, merged: make(chan struct{}, 1)}, nil
}

// startRetry is the pause between two attempts to read the evacuations before the node is ready.
const startRetry = time.Second

// Start reads the evacuations, so that a node of an evacuated region does not come up ready, and keeps reading until
// Close. It waits for the database: a node may start during a failover. It gives up when ctx ends.
func (s *Switch) Start(ctx context.Context) error {
	for {
		list, err := s.read(ctx)
		if err == nil {
			s.take(list)
			break
		}
		s.deps.Log.WarnContext(ctx, "the evacuations cannot be read from the database yet", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(startRetry):
		}
	}
	follow, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	// Two goroutines: an evacuation by gossip alone is for the time in which the database does not answer, so it must
	// not wait for a poll.
	s.running.Go(func() { s.applyMerged(follow) })
	s.running.Go(func() { s.poll(follow) })
	return nil
}

// Close ends the reading. It may be called without Start.
func (s *Switch) Close() {
	if s.stop != nil {
		s.stop()
		s.running.Wait()
	}
}

// Merge takes an evacuation from gossip into the list, and reports whether it changed the list. It does not wait, and
// calls neither gossip nor the monitor: memberlist's goroutines call it.
func (s *Switch) Merge(e region.Evacuation) (changed bool) {
	if !s.deps.Known.Merge(e) {
		return false
	}
	s.log(e)
	select {
	case s.merged <- struct{}{}:
	default: // the token that waits will do for this evacuation, too
	}
	return true
}

// LastRead returns when the database was last read with success, or the zero time. This read goes on at night, so it
// tells whether the morning's punches would find a database.
func (s *Switch) LastRead() time.Time {
	if at := s.lastRead.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Set stores an evacuation or its end, and tells the other nodes. The database decides whether it may be. By gossip
// alone nothing is stored: the evacuation holds on the nodes that hear of it.
func (s *Switch) Set(ctx context.Context, e region.Evacuation, gossipOnly bool) (region.Evacuation, error) {
	if e.On && !s.othersReady(e.Region) {
		return e, fmt.Errorf("no other region has a ready node in service: evacuating %s would leave no region", e.Region)
	}
	e.Version = s.deps.Known.Next()
	if !gossipOnly {
		stored, err := s.deps.Store.SetEvacuation(ctx, e)
		if _, refused := errors.AsType[*punch.Error](err); err != nil && !refused {
			return e, fmt.Errorf("%w: %w", ErrNotConfirmed, err)
		}
		if err != nil {
			return e, err
		}
		e = stored
	}
	s.take([]region.Evacuation{e})
	s.deps.Broadcast(e)
	return e, nil
}

func (s *Switch) othersReady(leaving region.Name) bool {
	now := s.deps.Clock()
	return slices.ContainsFunc(s.deps.Members(), func(m region.Member) bool {
		return m.Region != leaving && m.State == region.Ready && !s.deps.Known.Evacuated(m.Region, now)
	})
}

func (s *Switch) read(ctx context.Context) ([]region.Evacuation, error) {
	list, err := s.deps.Store.Evacuations(ctx)
	if err == nil {
		now := time.Now() // not the node's clock: this is for an age
		s.lastRead.Store(&now)
	}
	return list, err
}

func (s *Switch) applyMerged(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.merged:
			s.apply()
		}
	}
}

func (s *Switch) poll(ctx context.Context) {
	tick := time.NewTicker(s.cfg.PollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, s.cfg.PollTimeout)
		list, err := s.read(attempt)
		cancel()
		if err != nil {
			list = nil // the known evacuations hold; the health watcher reports a database that is away
		}
		s.take(list) // also without news: an evacuation may have ended by itself
	}
}

// take merges evacuations, and acts on this node's own region.
func (s *Switch) take(list []region.Evacuation) {
	for _, e := range list {
		if s.deps.Known.Merge(e) {
			s.log(e)
		}
	}
	s.apply()
}

func (s *Switch) log(e region.Evacuation) {
	s.deps.Log.Info("evacuation", "target", string(e.Region), "evacuated", e.On, "version", e.Version, "until", e.Until)
}

func (s *Switch) apply() {
	s.applying.Lock()
	defer s.applying.Unlock()
	reason := ""
	if s.deps.Known.Evacuated(s.cfg.Region, s.deps.Clock()) {
		reason = "the region is evacuated"
	}
	s.deps.Monitor.Set(health.Evacuated, reason)
}
