package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/region"
)

// Config says how a Watcher judges. DefaultConfig explains the values.
type Config struct {
	Node           string // this node's name in the list of members
	CheckEvery     time.Duration
	MaxClockOffset time.Duration
	DatabaseGrace  time.Duration
}

// DefaultConfig returns the configuration for a node.
func DefaultConfig(node string) Config {
	return Config{
		Node: node,
		// A clock that is stepped is noticed before many punches are stamped.
		CheckEvery: 5 * time.Second,
		// The receive time is evidence for payroll. A second is far above the error of the comparison, half a round trip,
		// and far below a minute, which would matter for pay.
		MaxClockOffset: time.Second,
		// Longer than CockroachDB needs to move a lost region's leases (2 to 7 s).
		DatabaseGrace: 15 * time.Second,
	}
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Node == "":
		return errors.New("health: Node is empty")
	case c.CheckEvery <= 0:
		return fmt.Errorf("health: CheckEvery must be more than 0, is %s", c.CheckEvery)
	case c.MaxClockOffset <= 0:
		return fmt.Errorf("health: MaxClockOffset must be more than 0, is %s", c.MaxClockOffset)
	case c.DatabaseGrace <= 0:
		return fmt.Errorf("health: DatabaseGrace must be more than 0, is %s", c.DatabaseGrace)
	default:
		return nil
	}
}

// compareAfter returns for how long the database must be silent before this node compares itself with its peers. All
// nodes notice an outage within CheckEvery and hear of each other within seconds. A node that compared itself sooner
// would believe that only it cannot reach the database.
func (c Config) compareAfter() time.Duration { return c.DatabaseGrace + 2*c.CheckEvery }

// Database answers with its time.
type Database interface {
	// ClockOffset returns how far the clock is ahead of the database's. Half of the round trip is how far the
	// comparison itself may be wrong.
	ClockOffset(ctx context.Context, clock func() time.Time) (offset, roundTrip time.Duration, err error)
}

// Deps is what a Watcher asks and reports to.
type Deps struct {
	Monitor  *Monitor
	Database Database
	// Members returns the cluster's nodes, this node among them.
	Members func() []region.Member
	Log     *slog.Logger
	Clock   func() time.Time // the node's clock, which is compared
}

// Watcher compares the node's clock with the database's, and finds out whether the database answers.
type Watcher struct {
	cfg  Config
	deps Deps

	offset atomic.Int64 // nanoseconds that the clock is ahead
	away   atomic.Bool

	running sync.WaitGroup
	stop    context.CancelFunc // nil until Start has succeeded
}

// New returns a Watcher that does not watch yet.
func New(cfg Config, deps Deps) (*Watcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Watcher{cfg: cfg, deps: deps}, nil
}

// startRetry is the pause between two attempts to read the database's clock before the node is ready.
const startRetry = time.Second

// Start compares the clocks once, and then keeps watching until Close. It waits for the database: a node may start
// during a failover. It gives up when ctx ends.
func (w *Watcher) Start(ctx context.Context) error {
	for {
		offset, roundTrip, err := w.deps.Database.ClockOffset(ctx, w.deps.Clock)
		if err == nil {
			w.judgeClock(offset, roundTrip)
			break
		}
		w.deps.Log.WarnContext(ctx, "the database's clock cannot be read yet", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(startRetry):
		}
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	w.running.Go(func() { w.watch(watch) })
	return nil
}

// Close ends the watching. It may be called without Start.
func (w *Watcher) Close() {
	if w.stop != nil {
		w.stop()
		w.running.Wait()
	}
}

// ClockOffset returns how far the node's clock was ahead of the database's at the last comparison.
func (w *Watcher) ClockOffset() time.Duration { return time.Duration(w.offset.Load()) }

// DatabaseAway reports whether the database has been silent for longer than DatabaseGrace. Peers are told so.
func (w *Watcher) DatabaseAway() bool { return w.away.Load() }

func (w *Watcher) watch(ctx context.Context) {
	tick := time.NewTicker(w.cfg.CheckEvery)
	defer tick.Stop()
	answered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		offset, roundTrip, err := w.deps.Database.ClockOffset(ctx, w.deps.Clock)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			answered = time.Now()
			w.judgeClock(offset, roundTrip)
		}
		silent := time.Since(answered)
		w.away.Store(silent > w.cfg.DatabaseGrace)
		w.judgeDatabase(silent)
	}
}

func (w *Watcher) judgeClock(offset, roundTrip time.Duration) {
	w.offset.Store(int64(offset))
	reason := ""
	if offset.Abs() > w.cfg.MaxClockOffset+roundTrip/2 {
		reason = fmt.Sprintf("the clock is %s off the database's", offset.Round(time.Millisecond))
	}
	w.deps.Monitor.Set(WrongClock, reason)
}

// judgeDatabase takes the node out of service if a peer reaches the database and this node does not. If no peer
// reaches it either, the fault is not this node's, and a region without ready nodes would help no client.
func (w *Watcher) judgeDatabase(silent time.Duration) {
	reason := ""
	if silent > w.cfg.compareAfter() {
		for _, m := range w.deps.Members() {
			// A member that is not ready, or has not told its load yet, proves nothing.
			if m.Node != w.cfg.Node && m.State == region.Ready && m.Load.Capacity > 0 && !m.Load.DatabaseAway {
				reason = fmt.Sprintf("the database has not answered for %s, and peers reach it", silent.Round(time.Second))
			}
		}
	}
	w.deps.Monitor.Set(NoDatabase, reason)
}
