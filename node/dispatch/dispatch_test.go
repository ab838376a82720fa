package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
	"github.com/punchclock/punchclock/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// direct is a Batcher without a queue.
type direct struct {
	w      Writer
	closed func()
}

func (d direct) Record(ctx context.Context, p punch.Punch) (punch.Receipt, error) {
	o := d.w.Write(ctx, []punch.Item{{Ctx: ctx, Punch: p}})[0]
	return o.Receipt, o.Err
}

func (d direct) RecordBatch(items []punch.Item) []punch.Outcome {
	return d.w.Write(items[0].Ctx, items)
}

func (direct) Waiting() int { return 0 }

func (direct) Open() bool { return false }

func (d direct) Close(context.Context) error { d.closed(); return nil }

type writerFunc func(items []punch.Item) []punch.Outcome

func (f writerFunc) Write(_ context.Context, items []punch.Item) []punch.Outcome { return f(items) }

// world has the parts around dispatch: a company with a home in the database and another in memory, and peers that
// answer as a test sets them.
type world struct {
	mu        sync.Mutex
	home      region.Home             // in the database
	cached    region.Home             // in memory
	peers     map[string]func() error // by address; without a function a peer records
	asked     []string                // "local <home>", "peer <addr>", "refresh", "close <kind>"
	stored    map[punch.Key]*punch.Stored
	candidate []region.Candidate
	overhead  time.Duration // of every call to a peer
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprintf(format, args...))
}

func (w *world) Home(context.Context, string) (region.Home, error) {
	if w.cached.Region == "" {
		return region.Home{}, region.ErrUnknownCompany
	}
	return w.cached, nil
}

func (w *world) Refresh(context.Context, string) (region.Home, error) {
	w.note("refresh")
	w.cached = w.home
	return w.home, nil
}

func (w *world) Route(home region.Name, usable func(string) bool) []region.Candidate {
	local := region.Candidate{Member: &region.Member{Node: "self"}, Local: true}
	if home == "us-east" {
		return []region.Candidate{local}
	}
	list := slices.DeleteFunc(slices.Clone(w.candidate), func(c region.Candidate) bool { return !usable(c.Node) })
	return append(list, local)
}

func (w *world) Local(home region.Name, usable func(string) bool) bool {
	return w.Route(home, usable)[0].Local
}

func (w *world) Find(_ context.Context, home string, key punch.Key) (*punch.Stored, error) {
	if s := w.stored[key]; s != nil && s.HomeRegion == home {
		return s, nil
	}
	return nil, punch.Errorf(punch.NotFound, "no")
}

func (w *world) List(context.Context, string, punch.Query) ([]punch.Receipt, error) { return nil, nil }

// settle answers as a database with one company: by the fence.
func (w *world) settle(items []punch.Item) []punch.Outcome {
	out := make([]punch.Outcome, len(items))
	for i := range items {
		if region.Name(items[i].HomeRegion) != w.home.Region || items[i].Epoch != w.home.Epoch {
			out[i].Err = punch.Errorf(punch.NotHome, "moved")
			continue
		}
		out[i].Receipt = items[i].Receipt(time.Now())
	}
	return out
}

func (w *world) RecordBatch(_ context.Context, _, addr string, items []punch.Item) ([]punch.Outcome, time.Duration, error) {
	w.note("peer %s", addr)
	if f := w.peers[addr]; f != nil {
		err := f()
		if refused, ok := errors.AsType[refusedCall](err); ok {
			return nil, 0, refused.Unwrap()
		}
		if _, coded := errors.AsType[*punch.Error](err); coded {
			out := make([]punch.Outcome, len(items))
			for i := range out {
				out[i].Err = err
			}
			return out, w.overhead, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return w.settle(items), w.overhead, nil
}

func mustDispatch(tb testing.TB, w *world) *Dispatch {
	tb.Helper()
	d, err := New(Config{MaxFutureSkew: time.Minute, CallTimeout: time.Second, Capacity: 10}, Deps{
		Directory: w, Router: w, Store: w, Peers: w, Present: func(string) bool { return true },
		OpenLocal: func(_ context.Context, home region.Name) (Batcher, error) {
			return direct{writerFunc(func(items []punch.Item) []punch.Outcome {
				w.note("local %s", home)
				return w.settle(items)
			}), func() { w.note("close local") }}, nil
		},
		OpenRemote: func(_ region.Name, forward Writer) (Batcher, error) {
			return direct{forward, func() { w.note("close remote") }}, nil
		},
		Tracer: tracenoop.NewTracerProvider(), Meter: metricnoop.NewMeterProvider(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func aPunch() punch.Punch {
	claim := punch.Request{Company: "acme", Employee: "anna", ID: punch.NewID(), Kind: punch.In}
	return punch.Stamped(claim, time.Now(), "us-east", "")
}

func berlin() *time.Location {
	loc, err := zone.Load("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	return loc
}

// refusedCall is the error of a call that a peer refused as a whole.
type refusedCall struct{ error }

func (r refusedCall) Unwrap() error { return r.error }

func candidates(addrs ...string) (list []region.Candidate) {
	for _, a := range addrs {
		list = append(list, region.Candidate{Member: &region.Member{Node: a, PeerAddr: a, Region: "eu-west"}})
	}
	return list
}

func home(name region.Name, epoch int64) region.Home {
	return region.Home{Region: name, Epoch: epoch, Zone: berlin(), Version: epoch}
}

func TestCandidates(t *testing.T) {
	broken := func() error { return errors.New("connection reset") }
	full := func() error { return refusedCall{punch.Retryable(punch.Overloaded, time.Second, "full", nil)} }
	overloaded := func() error { return punch.Retryable(punch.Overloaded, time.Second, "full", nil) }
	bad := func() error { return punch.InvalidField("note", "no") }
	type peers = map[string]func() error
	eu, eu2, us, us2 := home("eu-west", 1), home("eu-west", 2), home("us-east", 1), home("us-east", 2)
	onlyA, ab := candidates("a"), candidates("a", "b")
	for name, c := range map[string]struct {
		home, cached region.Home
		candidates   []region.Candidate
		peers        peers
		asked        string
		code         punch.Code
	}{
		"home is here":                 {home: us, cached: us, candidates: onlyA, asked: "[local us-east]"},
		"home is elsewhere":            {home: eu, cached: eu, candidates: ab, asked: "[peer a]"},
		"no peer is there":             {home: eu, cached: eu, asked: "[local eu-west]"},
		"the first is broken":          {home: eu, cached: eu, candidates: ab, peers: peers{"a": broken}, asked: "[peer a peer b]"},
		"the first is full":            {home: eu, cached: eu, candidates: ab, peers: peers{"a": full}, asked: "[peer a peer b]"},
		"its database is overloaded":   {home: eu, cached: eu, candidates: ab, peers: peers{"a": overloaded}, asked: "[peer a]", code: punch.Overloaded},
		"all are full":                 {home: eu, cached: eu, candidates: ab, peers: peers{"a": full, "b": full}, asked: "[peer a peer b local eu-west]"},
		"all are broken":               {home: eu, cached: eu, candidates: ab, peers: peers{"a": broken, "b": broken}, asked: "[peer a peer b local eu-west]"},
		"a final refusal ends it":      {home: eu, cached: eu, candidates: ab, peers: peers{"a": bad}, asked: "[peer a]", code: punch.Invalid},
		"the cached epoch is old":      {home: eu2, cached: eu, candidates: onlyA, asked: "[peer a refresh peer a]"},
		"it moved here":                {home: us2, cached: eu, candidates: onlyA, asked: "[peer a refresh local us-east]"},
		"it moved away":                {home: eu2, cached: us, candidates: onlyA, asked: "[local us-east refresh peer a]"},
		"the company is unknown there": {home: eu, candidates: onlyA, asked: "[]", code: punch.UnknownCompany},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{home: c.home, cached: c.cached, candidate: c.candidates, peers: c.peers}
			d := mustDispatch(t, w)
			receipt, err := d.Record(t.Context(), aPunch())
			if punch.CodeOf(err) != c.code || fmt.Sprint(w.asked) != c.asked {
				t.Fatalf("asked %v, error %v; want %s, %q", w.asked, err, c.asked, c.code)
			}
			if err == nil && (receipt.HomeRegion != string(c.home.Region) || receipt.Zone != "Europe/Berlin") {
				t.Errorf("receipt %+v", receipt)
			}
			if err := d.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTwoDispatchesAtMost(t *testing.T) {
	w := &world{home: home("eu-west", 9), cached: home("us-east", 1)}
	d := mustDispatch(t, w)
	w.candidate = candidates("a")
	w.peers = map[string]func() error{"a": func() error { return punch.Errorf(punch.NotHome, "moved again") }}
	_, err := d.Record(t.Context(), aPunch())
	if e := punch.AsError(err); e.Code != punch.Unavailable || e.RetryAfter <= 0 {
		t.Errorf("a company that keeps moving: %v", err)
	}
	if got := fmt.Sprint(w.asked); got != "[local us-east refresh peer a]" {
		t.Errorf("asked %s", got)
	}
}

// TestAForwardedPunchIsNotForwardedAgain holds that this node writes or refuses the punches of a peer, even if its
// directory has another home.
func TestAForwardedPunchIsNotForwardedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []region.Name{"us-east", "eu-west"}
		w := &world{
			home:      home(rapid.SampledFrom(names).Draw(t, "home"), rapid.Int64Range(1, 3).Draw(t, "epoch")),
			cached:    home(rapid.SampledFrom(names).Draw(t, "cached"), 1),
			candidate: candidates("a", "b"),
		}
		d, err := New(Config{CallTimeout: time.Second, Capacity: 10}, Deps{
			Directory: w, Router: w, Store: w, Peers: w, Present: func(string) bool { return true },
			OpenLocal: func(_ context.Context, home region.Name) (Batcher, error) {
				return direct{writerFunc(w.settle), func() {}}, nil
			},
			Tracer: tracenoop.NewTracerProvider(), Meter: metricnoop.NewMeterProvider(), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		items := make([]punch.Item, rapid.IntRange(0, 20).Draw(t, "items"))
		for i := range items {
			items[i] = punch.Item{Ctx: context.Background(), Punch: aPunch()}
			items[i].HomeRegion = string(rapid.SampledFrom(names).Draw(t, "routed to"))
			items[i].Epoch = rapid.Int64Range(1, 3).Draw(t, "under")
		}
		for i, o := range d.RecordBatch(items) {
			fits := items[i].HomeRegion == string(w.home.Region) && items[i].Epoch == w.home.Epoch
			if fits != (o.Err == nil) || fits && o.Receipt.ID != items[i].ID || !fits && punch.CodeOf(o.Err) != punch.NotHome {
				t.Fatalf("item %d for %s epoch %d: %+v", i, items[i].HomeRegion, items[i].Epoch, o)
			}
		}
		if len(w.asked) != 0 {
			t.Fatalf("punches of a peer were forwarded: %v", w.asked)
		}
	})
}

func TestAKnownPunchIsAnsweredBeforeTheClockRefusesIt(t *testing.T) {
	w := &world{home: home("us-east", 1), cached: home("us-east", 1), stored: make(map[punch.Key]*punch.Stored)}
	d := mustDispatch(t, w)
	p := aPunch()
	p.ID = punch.IDAt(time.Now().Add(time.Hour))
	if _, err := d.Record(t.Context(), p); punch.CodeOf(err) != punch.ClockAhead {
		t.Fatalf("a punch from the future: %v", err)
	}
	p.HomeRegion = "us-east"
	w.stored[p.Key()] = &punch.Stored{Receipt: p.Receipt(time.Now())}
	p.ReceivedAt = p.ReceivedAt.Add(time.Second)
	receipt, err := d.Record(t.Context(), p)
	if err != nil || !receipt.Replayed {
		t.Fatalf("the same punch, already recorded: %+v, %v", receipt, err)
	}
	p.Kind = punch.Out
	if _, err := d.Record(t.Context(), p); punch.CodeOf(err) != punch.Conflict {
		t.Fatalf("another punch under its id: %v", err)
	}
	if len(w.asked) != 0 {
		t.Errorf("a refused punch was written: %v", w.asked)
	}
}

func TestBatchersTowardsOtherRegionsCloseFirst(t *testing.T) {
	w := &world{home: home("eu-west", 1), cached: home("eu-west", 1), candidate: candidates("a"),
		peers: map[string]func() error{"a": func() error { return errors.New("gone") }}}
	d := mustDispatch(t, w)
	if _, err := d.Record(t.Context(), aPunch()); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(w.asked); got != "[peer a local eu-west close remote close local]" {
		t.Errorf("asked %s", got)
	}
	if _, err := d.Record(t.Context(), aPunch()); err == nil {
		_ = d.Close(t.Context())
	}
}
