package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// TestARemovedRegionMakesTheDatabaseNameTheHome has a cached home in a region that the database does not have any more.
// NotHome must reach Record, or devices get 503 until the cached home is refreshed for another reason.
func TestARemovedRegionMakesTheDatabaseNameTheHome(t *testing.T) {
	w := &world{home: home("eu-west", 2), cached: home("us-east", 1), candidate: candidates("a")}
	d := mustDispatch(t, w)
	d.local.open = func(_ context.Context, home region.Name) (Batcher, error) {
		w.note("open %s", home)
		return nil, fmt.Errorf("batcher: %w", punch.Errorf(punch.NotHome, "the database has no region %s", home))
	}
	receipt, err := d.Record(t.Context(), aPunch())
	if err != nil || receipt.HomeRegion != "eu-west" || fmt.Sprint(w.asked) != "[open us-east refresh peer a]" {
		t.Errorf("asked %v: %+v, %v", w.asked, receipt, err)
	}
	// A node that forwards is told the same, and asks the database itself.
	p := aPunch()
	p.HomeRegion = "us-east"
	if o := d.RecordBatch([]punch.Item{{Ctx: t.Context(), Punch: p}})[0]; punch.CodeOf(o.Err) != punch.NotHome {
		t.Errorf("a peer is told %v", o.Err)
	}
}

func TestARegionThatCannotBeOpenedIsRetryable(t *testing.T) {
	w := &world{home: home("us-east", 1), cached: home("us-east", 1)}
	d := mustDispatch(t, w)
	d.local.open = func(context.Context, region.Name) (Batcher, error) { return nil, errors.New("connection refused") }
	_, err := d.Record(t.Context(), aPunch())
	if e := punch.AsError(err); e.Code != punch.Unavailable || e.RetryAfter <= 0 || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a home region that cannot be opened: %v", err)
	}
	if n := d.Load().InFlight; n != 0 {
		t.Errorf("%d punches in flight after all were answered", n)
	}
}

// TestOneBatcherIsOpenedForAThousandFirstPunches also holds that the first caller's deadline does not fail the others.
func TestOneBatcherIsOpenedForAThousandFirstPunches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{home: home("us-east", 1), cached: home("us-east", 1)}
		d := mustDispatch(t, w)
		open := d.local.open
		var opened atomic.Int64
		d.local.open = func(ctx context.Context, home region.Name) (Batcher, error) {
			opened.Add(1)
			select {
			case <-time.After(d.cfg.CallTimeout / 2): // the database is asked
				return open(ctx, home)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		var wg sync.WaitGroup
		impatient, cancel := context.WithTimeout(t.Context(), d.cfg.CallTimeout/10)
		defer cancel()
		wg.Go(func() { _, _ = d.Record(impatient, aPunch()) })
		synctest.Wait()
		for range 1000 {
			wg.Go(func() {
				if _, err := d.Record(t.Context(), aPunch()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := opened.Load(); n != 1 {
			t.Errorf("%d batchers were opened for one home", n)
		}
		if err := d.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestABatcherThatOpensDuringCloseIsClosed lets Close run while a home's first batcher opens.
func TestABatcherThatOpensDuringCloseIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{home: home("us-east", 1), cached: home("us-east", 1)}
		d := mustDispatch(t, w)
		open := d.local.open
		d.local.open = func(ctx context.Context, home region.Name) (Batcher, error) {
			time.Sleep(d.cfg.CallTimeout / 2)
			return open(ctx, home)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := d.Record(t.Context(), aPunch()); punch.CodeOf(err) != punch.Unavailable {
				t.Errorf("a punch during the shutdown: %v", err)
			}
		})
		synctest.Wait()
		if err := d.Close(t.Context()); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if got := fmt.Sprint(w.asked); got != "[close local]" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestConfigNamesTheField(t *testing.T) {
	good := Config{MaxFutureSkew: time.Minute, CallTimeout: time.Second, Capacity: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Config){
		"MaxFutureSkew": func(c *Config) { c.MaxFutureSkew = -1 },
		"CallTimeout":   func(c *Config) { c.CallTimeout = 0 },
		"Capacity":      func(c *Config) { c.Capacity = 0 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("a bad %s: %v", field, err)
		}
	}
}
