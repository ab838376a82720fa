package controls

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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

// store keeps switches as the database does, and can be made to refuse or to hang.
type store struct {
	mu     sync.Mutex // guards the fields below
	list   []region.Switch
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

func (s *store) Switches(ctx context.Context) ([]region.Switch, error) {
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

func (s *store) SetSwitches(_ context.Context, kind region.SwitchKind, list []region.Switch) ([]region.Switch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.stored++
	s.list = slices.DeleteFunc(s.list, func(old region.Switch) bool { return old.Kind == kind })
	list = slices.Clone(list)
	for i := range list {
		list[i].Version += 10 // the database's versions may be ahead of this node's
	}
	s.list = append(s.list, list...)
	return slices.Clone(list), nil
}

// fixture is the Controls of a node in eu-west, with everything around it.
type fixture struct {
	*Controls
	store   *store
	monitor *health.Monitor
	known   *region.Switches
	told    []region.Switch
	members []region.Member
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	f := &fixture{
		store: new(store), monitor: health.NewMonitor(log), known: new(region.Switches),
		members: []region.Member{{Region: "us-east", State: region.Ready}, {Region: "eu-west", State: region.Ready}},
	}
	f.monitor.Set(health.Starting, "")
	var err error
	f.Controls, err = New(DefaultConfig("eu-west"), Deps{
		Store: f.store, Known: f.known, Monitor: f.monitor, Log: log, Clock: time.Now,
		Broadcast: func(e region.Switch) { f.told = append(f.told, e) },
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

// advance lets time pass, and waits until Controls have finished all due work.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var evacuated = region.Switch{Region: "eu-west", Level: 1, Version: 1}

func TestANodeOfAnEvacuatedRegionDoesNotComeUpReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.store.list = []region.Switch{evacuated}
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
		f.store.change(func(s *store) { s.hangs, s.list = false, []region.Switch{evacuated} })
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
		restored := region.Switch{Region: "eu-west", Version: 2}
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
		got, err := f.Set(t.Context(), []region.Switch{{Region: "eu-west", Level: 1}}, false)
		if err != nil || got[0].Version != 11 || !slices.Equal(f.told, got) || f.store.stored != 1 {
			t.Fatalf("stored %+v, told %+v, error %v", got, f.told, err)
		}
		if f.monitor.Ready() { // at once, without a poll
			t.Error("the node of the evacuated region is ready")
		}
		got, err = f.Set(t.Context(), []region.Switch{{Region: "eu-west"}}, true)
		if err != nil || got[0].Version != 12 || f.store.stored != 1 || !f.monitor.Ready() {
			t.Errorf("restored by gossip alone: %+v, %v, reasons %q", got, err, f.monitor.NotReady())
		}
	})
}

// TestALevelOfAllRegions degrades every region with one command. The nodes must hear of each region, no node leaves
// service, and the level ends by itself.
func TestALevelOfAllRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.mustStart(t)
		until := time.Now().Add(time.Minute)
		list := make([]region.Switch, 2)
		for i, name := range []region.Name{"us-east", "eu-west"} {
			list[i] = region.Switch{Kind: region.Degradation, Region: name, Level: region.PunchesOnly, Until: until}
		}
		got, err := f.Set(t.Context(), list, false)
		if err != nil || len(got) != 2 || !slices.Equal(f.told, got) || f.store.stored != 1 {
			t.Fatalf("stored %+v, told %+v, error %v", got, f.told, err)
		}
		for _, name := range []region.Name{"us-east", "eu-west"} {
			if level := f.known.Level(region.Degradation, name, time.Now()); level != region.PunchesOnly {
				t.Errorf("the level of %s is %d", name, level)
			}
		}
		if !f.monitor.Ready() || f.known.Evacuated("eu-west", time.Now()) {
			t.Errorf("a degraded node is not ready: %q", f.monitor.NotReady())
		}
		advance(time.Minute)
		if level := f.known.Level(region.Degradation, "eu-west", time.Now()); level != 0 {
			t.Errorf("after its end the level is %d", level)
		}
	})
}

func TestSetRefuses(t *testing.T) {
	leave := region.Switch{Region: "eu-west", Level: 1}
	for name, test := range map[string]struct {
		prepare func(f *fixture)
		want    error
		text    string
	}{
		"the last region with ready nodes": {
			func(f *fixture) { f.members[0].State = region.Warming }, nil, "no other region",
		},
		"the last region that is not evacuated": {
			func(f *fixture) { f.Merge(region.Switch{Region: "us-east", Level: 1, Version: 1}) }, nil, "no other region",
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
			_, err := f.Set(t.Context(), []region.Switch{leave}, false)
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
			merging.Go(func() { f.Merge(region.Switch{Region: "eu-west", Level: 1, Version: version + 1}) })
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
