package dispatch

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

func suspendedCompany(epoch int64, until time.Time) region.Home {
	h := home("eu-west", epoch)
	h.Suspended, h.SuspendedUntil = true, until
	return h
}

// mustLimited has the default limit of employees.
func mustLimited(t *testing.T, w *world) *Dispatch {
	t.Helper()
	d := mustDispatch(t, w)
	rates, err := admission.NewRates(admission.RatesConfig{EmployeeBurst: 5, EmployeeInterval: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d.deps.Rates = rates
	return d
}

func TestASuspendedCompanyIsToldToComeBack(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		until    time.Time
		from, to time.Duration // bounds of Retry-After
	}{
		"until it is resumed": {time.Time{}, suspendedFor, suspendedFor + suspendedSpread},
		"until tomorrow":      {now.Add(24 * time.Hour), suspendedFor, suspendedFor + suspendedSpread},
		"for another minute":  {now.Add(time.Minute), 55 * time.Second, time.Minute + suspendedSpread},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{home: suspendedCompany(2, c.until), cached: home("eu-west", 1), candidate: candidates("a")}
			d := mustDispatch(t, w)
			// The first punch is routed under the old epoch, and misses the fence.
			for i, asked := range []string{"[peer a refresh]", "[]"} {
				_, err := d.Record(t.Context(), aPunch())
				e := punch.AsError(err)
				if e.Code != punch.Suspended || e.Code.Final() || e.RetryAfter < c.from || e.RetryAfter > c.to {
					t.Errorf("punch %d: %v, Retry-After %s; want suspended, %s to %s", i, err, e.RetryAfter, c.from, c.to)
				}
				if got := fmt.Sprint(w.asked); got != asked {
					t.Errorf("punch %d asked %s, want %s", i, got, asked)
				}
				w.asked, w.cached = nil, w.home // the directory has read the company
			}
		})
	}
}

// TestRetryAfterOfASuspensionIsSpread keeps the devices of a resumed company from coming back together.
func TestRetryAfterOfASuspensionIsSpread(t *testing.T) {
	w := &world{cached: suspendedCompany(1, time.Time{})}
	d := mustDispatch(t, w)
	waits := make(map[time.Duration]bool)
	for range 100 {
		_, err := d.Record(t.Context(), aPunch())
		waits[punch.AsError(err).RetryAfter.Truncate(time.Second)] = true
	}
	if len(waits) < 30 {
		t.Errorf("100 devices come back in %d different seconds of %s", len(waits), suspendedSpread)
	}
}

func TestASuspensionEndsByItself(t *testing.T) {
	ended := suspendedCompany(1, time.Now().Add(-time.Second))
	w := &world{home: ended, cached: ended, candidate: candidates("a")}
	d := mustDispatch(t, w)
	if _, err := d.Record(t.Context(), aPunch()); err != nil || fmt.Sprint(w.asked) != "[peer a]" {
		t.Errorf("a punch after the end of the suspension: %v, asked %v", err, w.asked)
	}
}

func TestReadsOfASuspendedCompanyGoOn(t *testing.T) {
	p := aPunch()
	p.HomeRegion = "eu-west"
	w := &world{cached: suspendedCompany(1, time.Time{}), stored: map[punch.Key]*punch.Stored{p.Key(): {Receipt: p.Receipt(time.Now())}}}
	if receipt, err := (Reads{Directory: w, Store: w}).Find(t.Context(), p.Key()); err != nil || receipt.ID != p.ID {
		t.Errorf("a read of a suspended company: %+v, %v", receipt, err)
	}
}

func TestOnePunchTooManyOfAnEmployee(t *testing.T) {
	w := &world{home: home("us-east", 1), cached: home("us-east", 1), stored: make(map[punch.Key]*punch.Stored)}
	d := mustLimited(t, w)
	for i := range 5 {
		if _, err := d.Record(t.Context(), aPunch()); err != nil {
			t.Fatalf("punch %d of 5: %v", i+1, err)
		}
	}
	w.asked = nil
	p := aPunch()
	_, err := d.Record(t.Context(), p)
	if e := punch.AsError(err); e.Code != punch.RateLimited || e.RetryAfter <= 0 || e.RetryAfter > 3*time.Second {
		t.Fatalf("the sixth punch at once: %v, Retry-After %s", err, e.RetryAfter)
	}
	// The device of a stored punch may not have had the receipt, so the punch is looked up before it is refused.
	p.HomeRegion = "us-east"
	w.stored[p.Key()] = &punch.Stored{Receipt: p.Receipt(time.Now())}
	p.ReceivedAt = p.ReceivedAt.Add(time.Millisecond)
	if receipt, err := d.Record(t.Context(), p); err != nil || !receipt.Replayed {
		t.Errorf("a stored punch above the limit: %+v, %v, want its receipt", receipt, err)
	}
	p.Kind = punch.Out
	if _, err := d.Record(t.Context(), p); punch.CodeOf(err) != punch.Conflict {
		t.Errorf("another punch under its id: %v, want a conflict", err)
	}
	if len(w.asked) != 0 {
		t.Errorf("punches above the limit were written: %v", w.asked)
	}
	other := aPunch()
	other.Employee = "ben"
	if _, err := d.Record(t.Context(), other); err != nil {
		t.Errorf("another employee: %v", err)
	}
}

func TestACompanyAboveItsLimit(t *testing.T) {
	limited := home("us-east", 1)
	limited.RateLimit = 3
	w := &world{home: limited, cached: limited, stored: make(map[punch.Key]*punch.Stored)}
	d := mustLimited(t, w)
	at := time.Now()
	send := func(i int) error {
		claim := punch.Request{Company: "acme", Employee: fmt.Sprint("e", i), ID: punch.IDAt(at), Kind: punch.In}
		_, err := d.Record(t.Context(), punch.Stamped(claim, at, "us-east", ""))
		return err
	}
	for i := range 3 {
		if err := send(i); err != nil {
			t.Fatalf("punch %d of 3: %v", i+1, err)
		}
	}
	if e := punch.AsError(send(4)); e.Code != punch.RateLimited || e.RetryAfter <= 0 || !strings.Contains(e.Message, "limit") {
		t.Errorf("the fourth punch of the second: %v, Retry-After %s", e, e.RetryAfter)
	}
	// The home node takes the punches that another node has let pass.
	p := aPunch()
	p.HomeRegion, p.Epoch = "us-east", 1
	for range 10 {
		p.ID = punch.NewID()
		if o := d.RecordBatch([]punch.Item{{Ctx: t.Context(), Punch: p}})[0]; o.Err != nil {
			t.Fatalf("a forwarded punch: %v", o.Err)
		}
	}
	w.cached.RateLimit = 0
	if err := send(5); err != nil {
		t.Errorf("a punch after the limit was removed: %v", err)
	}
}

// TestASecondDispatchIsNoSecondArrival routes a punch under an old home while its company may send one a second.
func TestASecondDispatchIsNoSecondArrival(t *testing.T) {
	old, now := home("us-east", 1), home("us-east", 2)
	old.RateLimit, now.RateLimit = 1, 1
	w := &world{home: now, cached: old}
	d := mustLimited(t, w)
	if _, err := d.Record(t.Context(), aPunch()); err != nil || fmt.Sprint(w.asked) != "[local us-east refresh local us-east]" {
		t.Errorf("a punch with a stale home: %v, asked %v", err, w.asked)
	}
}

// companies is the database behind a real directory: one company, whose home a test changes.
type companies struct {
	mu   sync.Mutex
	home region.Home
}

func (c *companies) Home(context.Context, string) (region.Home, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.home, nil
}

func (c *companies) set(suspended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.home.Suspended = suspended
	c.home.Epoch++
	c.home.Version++
}

// TestDevicesOfASuspendedCompanyKeepAndSpreadTheirPunches has 500 devices that press before, during and after a suspension
// of an hour. They obey Retry-After. Every punch must be written once, soon after the end, and never in one rush.
func TestDevicesOfASuspendedCompanyKeepAndSpreadTheirPunches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const devices = 500
		db := &companies{home: home("us-east", 1)}
		directory, err := region.NewDirectory(region.DefaultDirectoryConfig(), db)
		if err != nil {
			t.Fatal(err)
		}
		defer directory.Close()
		w := &world{}
		d := mustLimited(t, w)
		d.deps.Directory = directory
		var mu sync.Mutex
		written := make(map[punch.ID]time.Time)
		d.local.open = func(context.Context, region.Name) (Batcher, error) {
			return direct{writerFunc(func(items []punch.Item) []punch.Outcome {
				time.Sleep(5 * time.Millisecond) // a commit
				out := make([]punch.Outcome, len(items))
				current, _ := db.Home(t.Context(), "")
				mu.Lock()
				defer mu.Unlock()
				for i := range items {
					if items[i].Epoch != current.Epoch {
						out[i].Err = punch.Errorf(punch.NotHome, "epoch")
						continue
					}
					if _, twice := written[items[i].ID]; twice || current.Suspended {
						t.Errorf("punch %s is written twice (%t), or for a suspended company", items[i].ID, twice)
					}
					written[items[i].ID] = time.Now()
				}
				return out
			}), func() {}}, nil
		}
		var attempts atomic.Int64
		var people sync.WaitGroup
		for i := range devices {
			people.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Minute / devices) // ten minutes around the beginning
				claim := punch.Request{Company: "acme", Employee: fmt.Sprint("e", i), ID: punch.NewID(), Kind: punch.In}
				for {
					attempts.Add(1)
					_, err := d.Record(t.Context(), punch.Stamped(claim, time.Now(), "us-east", ""))
					if err == nil {
						return
					}
					e := punch.AsError(err)
					if e.Code.Final() {
						t.Errorf("a final refusal: %v", err)
						return
					}
					time.Sleep(e.RetryAfter)
				}
			})
		}
		time.Sleep(5 * time.Minute)
		db.set(true)
		time.Sleep(time.Hour)
		db.set(false)
		resumed := time.Now()
		people.Wait()

		perSecond := make(map[int64]int)
		for _, at := range written {
			if at.After(resumed) {
				perSecond[at.Unix()]++
			}
			if at.Sub(resumed) > suspendedFor+suspendedSpread+time.Second {
				t.Errorf("a punch arrived %s after the end of the suspension", at.Sub(resumed))
			}
		}
		if len(written) != devices {
			t.Errorf("%d punches of %d devices were written", len(written), devices)
		}
		busiest := 0
		for _, n := range perSecond {
			busiest = max(busiest, n)
		}
		if stored := devices / 2; busiest > stored/10 {
			t.Errorf("%d of %d stored punches arrive in one second", busiest, stored)
		}
		if most := int64(devices + devices/2*5); attempts.Load() > most {
			t.Errorf("%d attempts in an hour of suspension, want at most %d: one each, and four an hour", attempts.Load(), most)
		}
	})
}
