package evacuation

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/health"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store keeps evacuations as the database does, and can be made to refuse or to hang.
type store struct {
	mu     sync.Mutex // guards the fields below
	list   []region.Evacuation
	err    error
	hangs  bool // every read waits until its context ends
	reads  int
	stored int
}

func (s *store) change(do func(*store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(s)
}

func (s *store) Evacuations(ctx context.Context) ([]region.Evacuation, error) {
	s.mu.Lock()
	s.reads++
	list, err, hangs := s.list, s.err, s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return list, err
}

func (s *store) SetEvacuation(_ context.Context, e region.Evacuation) (region.Evacuation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return e, s.err
	}
	s.stored++
	e.Version += 10 // the database's versions may be ahead of this node's
	s.list = []region.Evacuation{e}
	return e, nil
}

// fixture is a Switch of a node in eu-west, with everything around it.
type fixture struct {
	*Switch
	store   *store
	monitor *health.Monitor
	known   *region.Evacuations
	told    []region.Evacuation
	members []region.Member
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	f := &fixture{
		store: new(store), monitor: health.NewMonitor(log), known: new(region.Evacuations),
		members: []region.Member{{Region: "us-east", State: region.Ready}, {Region: "eu-west", State: region.Ready}},
	}
	f.monitor.Set(health.Starting, "")
	var err error
	f.Switch, err = New(DefaultConfig("eu-west"), Deps{
		Store: f.store, Known: f.known, Monitor: f.monitor, Log: log, Clock: time.Now,
		Broadcast: func(e region.Evacuation) { f.told = append(f.told, e) },
		Members:   func() []region.Member { return f.members },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) mustStart(t *testing.T) {
	t.Helper()
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// advance lets time pass, and waits until the Switch has finished all due work.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var evacuated = region.Evacuation{Region: "eu-west", On: true, Version: 1}

func TestANodeOfAnEvacuatedRegionDoesNotComeUpReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.store.list = []region.Evacuation{evacuated}
		f.mustStart(t)
		if f.monitor.State() != region.Draining {
			t.Errorf("after the start the node is %s", f.monitor.State())
		}
		if age := time.Since(f.LastRead()); age != 0 {
			t.Errorf("the last read was %s ago", age)
		}
	})
}

// TestTheStartWaitsForTheDatabase is a node that starts while its database fails over: giving up would end the process.
func TestTheStartWaitsForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.store.err = errors.New("connection refused")
		started := make(chan error, 1)
		go func() { started <- f.Start(t.Context()) }()
		advance(10 * time.Second) // longer than CockroachDB needs to move a region's leases
		select {
		case err := <-started:
			t.Fatalf("the start ended without a database: %v", err)
		default:
		}
		if !f.LastRead().IsZero() {
			t.Errorf("a read at %s counts as a success", f.LastRead())
		}
		f.store.change(func(s *store) { s.err = nil })
		advance(startRetry)
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheStartEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.store.err = errors.New("connection refused")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Start(ctx); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("the start ended with %v, want the database's refusal", err)
		}
	})
}

func TestPollingGoesOnAfterADatabaseThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.mustStart(t)
		f.store.change(func(s *store) { s.hangs = true })
		advance(time.Minute)
		read := f.LastRead()
		f.store.change(func(s *store) { s.hangs, s.list = false, []region.Evacuation{evacuated} })
		advance(f.cfg.PollEvery + f.cfg.PollTimeout)
		if f.monitor.Ready() || !f.LastRead().After(read) {
			t.Errorf("ready: %t, last read at %s and %s", f.monitor.Ready(), read, f.LastRead())
		}
	})
}

// TestGossipDoesNotWaitForTheDatabase merges an evacuation while a poll hangs.
func TestGossipDoesNotWaitForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.mustStart(t)
		f.store.change(func(s *store) { s.hangs = true })
		advance(f.cfg.PollEvery)
		if !f.Merge(evacuated) {
			t.Error("a new evacuation changed nothing")
		}
		if f.Merge(evacuated) {
			t.Error("the same evacuation changed the list a second time")
		}
		synctest.Wait() // no time passes
		if f.monitor.Ready() {
			t.Error("the node of the evacuated region is ready")
		}
		restored := region.Evacuation{Region: "eu-west", Version: 2}
		f.Merge(restored)
		synctest.Wait()
		if !f.monitor.Ready() {
			t.Errorf("after the restore the reasons are %q", f.monitor.NotReady())
		}
	})
}

func TestAnEvacuationEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.mustStart(t)
		e := evacuated
		e.Until = time.Now().Add(10 * time.Second)
		f.Merge(e)
		advance(9 * time.Second)
		if f.monitor.Ready() {
			t.Error("the evacuation ended early")
		}
		f.store.change(func(s *store) { s.err = errors.New("connection refused") }) // the end needs no database
		advance(time.Second + f.cfg.PollEvery)
		if !f.monitor.Ready() {
			t.Errorf("after its end the reasons are %q", f.monitor.NotReady())
		}
	})
}

func TestSetStoresThenTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.mustStart(t)
		got, err := f.Set(t.Context(), region.Evacuation{Region: "eu-west", On: true}, false)
		if err != nil || got.Version != 11 || len(f.told) != 1 || f.told[0] != got || f.store.stored != 1 {
			t.Fatalf("stored %+v, told %+v, error %v", got, f.told, err)
		}
		if f.monitor.Ready() { // at once, without a poll
			t.Error("the node of the evacuated region is ready")
		}
		got, err = f.Set(t.Context(), region.Evacuation{Region: "eu-west"}, true)
		if err != nil || got.Version != 12 || f.store.stored != 1 || !f.monitor.Ready() {
			t.Errorf("restored by gossip alone: %+v, %v, reasons %q", got, err, f.monitor.NotReady())
		}
	})
}

func TestSetRefuses(t *testing.T) {
	leave := region.Evacuation{Region: "eu-west", On: true}
	for name, test := range map[string]struct {
		prepare func(f *fixture)
		want    error
		text    string
	}{
		"the last region with ready nodes": {
			func(f *fixture) { f.members[0].State = region.Warming }, nil, "no other region",
		},
		"the last region that is not evacuated": {
			func(f *fixture) { f.Merge(region.Evacuation{Region: "us-east", On: true, Version: 1}) }, nil, "no other region",
		},
		"when the database refuses": {
			func(f *fixture) { f.store.err = punch.Errorf(punch.Conflict, "the last region") }, nil, "the last region",
		},
		"when the database does not answer": {
			func(f *fixture) { f.store.err = errors.New("connection reset") }, ErrNotConfirmed, "connection reset",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			test.prepare(f)
			_, err := f.Set(t.Context(), leave, false)
			if err == nil || !strings.Contains(err.Error(), test.text) || errors.Is(err, ErrNotConfirmed) != (test.want != nil) {
				t.Errorf("got %v, want an error with %q", err, test.text)
			}
			if len(f.told) > 0 || !f.monitor.Ready() {
				t.Errorf("told %+v, reasons %q", f.told, f.monitor.NotReady())
			}
		})
	}
}

func TestStartStopStress(t *testing.T) {
	for range 50 {
		f := newFixture(t)
		f.Close() // without a start
		f.mustStart(t)
		var merging sync.WaitGroup
		for version := range int64(3) {
			merging.Go(func() { f.Merge(region.Evacuation{Region: "eu-west", On: true, Version: version + 1}) })
		}
		f.Close()
		merging.Wait()
	}
}

func TestConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"Region":      func(c *Config) { c.Region = "" },
		"PollEvery":   func(c *Config) { c.PollEvery = 0 },
		"PollTimeout": func(c *Config) { c.PollTimeout = -1 },
	} {
		cfg := DefaultConfig("eu-west")
		change(&cfg)
		if _, err := New(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v, want an error that names the field", field, err)
		}
	}
}
