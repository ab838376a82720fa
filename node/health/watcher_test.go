package health

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/region"
)

// database is a database whose clock is this machine's, and which can be made to refuse.
type database struct {
	mu        sync.Mutex // guards the fields below
	refusing  bool
	roundTrip time.Duration
	asked     int
}

func (d *database) refuse(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refusing = yes
}

func (d *database) ClockOffset(ctx context.Context, clock func() time.Time) (offset, roundTrip time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.refusing {
		return 0, 0, errors.New("connection refused")
	}
	return time.Until(clock()), d.roundTrip, ctx.Err()
}

// watched is a Watcher with everything around it.
type watched struct {
	*Watcher
	monitor  *Monitor
	database *database
	ahead    atomic.Int64 // nanoseconds that the node's clock is ahead
	peers    []region.Member
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{monitor: NewMonitor(discard), database: new(database)}
	w.monitor.Set(Starting, "")
	var err error
	w.Watcher, err = New(DefaultConfig("self"), Deps{
		Monitor: w.monitor, Database: w.database, Log: discard,
		Members: func() []region.Member {
			return append([]region.Member{{Node: "self", State: region.Ready, Load: region.Load{Capacity: 1}}}, w.peers...)
		},
		Clock: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// advance lets time pass, and waits until the Watcher has finished all due work.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAWrongClockTakesTheNodeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.ahead.Store(int64(-10 * time.Minute))
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reasons := w.monitor.NotReady(); len(reasons) != 1 || !strings.Contains(reasons[0], "-10m0s off") {
			t.Fatalf("right after the start the reasons are %q", reasons)
		}
		if !w.monitor.Has(WrongClock) || w.ClockOffset() != -10*time.Minute {
			t.Errorf("the offset is %s, want -10m", w.ClockOffset())
		}
		w.ahead.Store(int64(900 * time.Millisecond)) // less than the bound
		advance(w.cfg.CheckEvery)
		if !w.monitor.Ready() {
			t.Errorf("the clock is 900 ms ahead, and the reasons are %q", w.monitor.NotReady())
		}
		w.ahead.Store(int64(1100 * time.Millisecond))
		advance(w.cfg.CheckEvery)
		if w.monitor.Ready() {
			t.Error("the clock is 1.1 s ahead, and the node is ready")
		}
		w.database.mu.Lock()
		w.database.roundTrip = 300 * time.Millisecond // the comparison may be wrong by half of it
		w.database.mu.Unlock()
		advance(w.cfg.CheckEvery)
		if !w.monitor.Ready() {
			t.Errorf("over a slow connection the reasons are %q", w.monitor.NotReady())
		}
	})
}

func TestTheStartWaitsForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.database.refuse(true)
		started := make(chan error, 1)
		go func() { started <- w.Start(t.Context()) }()
		advance(time.Minute)
		select {
		case err := <-started:
			t.Fatalf("the start ended without a database: %v", err)
		default:
		}
		w.database.refuse(false)
		advance(startRetry)
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheStartEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.database.refuse(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Start(ctx); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("the start ended with %v, want the database's refusal", err)
		}
	})
}

// TestOnlyALonelyNodeGoesOut makes the database silent for one node, and lets its peers say something about theirs.
func TestOnlyALonelyNodeGoesOut(t *testing.T) {
	reaches, away := region.Load{Capacity: 1}, region.Load{Capacity: 1, DatabaseAway: true}
	for name, test := range map[string]struct {
		peers []region.Member
		ready bool
	}{
		"no peers":                              {nil, true},
		"a peer that reaches its database":      {[]region.Member{{Node: "a", State: region.Ready, Load: reaches}}, false},
		"a peer that does not reach it either":  {[]region.Member{{Node: "a", State: region.Ready, Load: away}}, true},
		"a peer that is not ready":              {[]region.Member{{Node: "a", State: region.Warming, Load: reaches}}, true},
		"a peer that has not told its load yet": {[]region.Member{{Node: "a", State: region.Ready}}, true},
		"one of two peers reaches it": {
			[]region.Member{{Node: "a", State: region.Draining, Load: reaches}, {Node: "b", State: region.Ready, Load: reaches}}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched(t)
				w.peers = test.peers
				if err := w.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.database.refuse(true)
				advance(w.cfg.DatabaseGrace)
				if w.DatabaseAway() || !w.monitor.Ready() {
					t.Fatalf("after %s: away %t, reasons %q", w.cfg.DatabaseGrace, w.DatabaseAway(), w.monitor.NotReady())
				}
				advance(w.cfg.CheckEvery)
				if !w.DatabaseAway() || !w.monitor.Ready() {
					t.Fatalf("peers must hear of it before the node judges itself: away %t, reasons %q", w.DatabaseAway(), w.monitor.NotReady())
				}
				advance(2 * w.cfg.CheckEvery)
				if w.monitor.Ready() != test.ready {
					t.Errorf("reasons %q, want ready: %t", w.monitor.NotReady(), test.ready)
				}
				w.database.refuse(false)
				advance(w.cfg.CheckEvery)
				if w.DatabaseAway() || !w.monitor.Ready() {
					t.Errorf("the database answers again: away %t, reasons %q", w.DatabaseAway(), w.monitor.NotReady())
				}
			})
		})
	}
}

func TestCloseEndsTheWatching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t)
		w.Close() // without a start
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Close()
		asked := w.database.asked
		advance(time.Minute)
		if w.database.asked != asked {
			t.Errorf("asked %d times after Close", w.database.asked-asked)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"Node":           func(c *Config) { c.Node = "" },
		"CheckEvery":     func(c *Config) { c.CheckEvery = 0 },
		"MaxClockOffset": func(c *Config) { c.MaxClockOffset = -1 },
		"DatabaseGrace":  func(c *Config) { c.DatabaseGrace = 0 },
	} {
		cfg := DefaultConfig("self")
		change(&cfg)
		if _, err := New(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v, want an error that names the field", field, err)
		}
	}
}
