package batcher

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// outage is a Writer whose home does not answer until it is back.
type outage struct{ back atomic.Bool }

func (o *outage) Write(ctx context.Context, items []punch.Item) []punch.Outcome {
	if o.back.Load() {
		return record(ctx, items)
	}
	<-ctx.Done()
	return allUnconfirmed(items, ctx.Err())
}

// punchWithin records one punch with a deadline and expects Unavailable. It returns how long that took.
func (o *outage) punchWithin(t *testing.T, b *Batcher, deadline time.Duration) time.Duration {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	start := time.Now()
	if _, err := b.Record(ctx, aPunch("x")); punch.CodeOf(err) != punch.Unavailable {
		t.Errorf("an item of a home that does not answer: %v", err)
	}
	return time.Since(start)
}

// TestTheBreakerOpensWithoutSuccessAndClosesWithOne has a home that does not answer. The first callers wait, later ones
// are refused at once except for the probes, and the first write that succeeds lets all in again.
func TestTheBreakerOpensWithoutSuccessAndClosesWithOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var home outage
		b := mustBatcher(t, Config{MaxWrites: 2}, &home)
		var refused, waited atomic.Int64
		var wg sync.WaitGroup
		for range 300 { // 30 s of a punch each 100 ms, with deadlines of 15 s
			wg.Go(func() {
				if home.punchWithin(t, b, 15*time.Second) == 0 {
					refused.Add(1)
				} else {
					waited.Add(1)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		// The callers of the first 10 s wait. In the other 20 s one item a second is a probe.
		if n := waited.Load(); n < 100 || n > 125 || refused.Load() != 300-n {
			t.Errorf("%d callers waited and %d were refused at once", n, refused.Load())
		}
		if !b.Open() {
			t.Error("the breaker is closed although no write succeeded for 30 s")
		}
		home.back.Store(true)
		time.Sleep(probeEvery)
		for i := range 10 { // the first is the probe
			if _, err := b.Record(t.Context(), aPunch("after")); err != nil {
				t.Errorf("punch %d after the home is back: %v", i, err)
			}
		}
		if b.Open() {
			t.Error("the breaker is open although a write succeeded")
		}
		mustClose(t, b)
	})
}

// TestAnOpenBreakerClosesWithoutTraffic has one punch that times out and no traffic after it. The breaker must not tell
// DNS hours later that the home does not answer, and must not refuse the first punches of the morning.
func TestAnOpenBreakerClosesWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var home outage
		b := mustBatcher(t, Config{}, &home)
		home.punchWithin(t, b, 15*time.Second)
		if !b.Open() {
			t.Error("no write succeeded for 15 s and the breaker is closed")
		}
		time.Sleep(forgetAfter)
		if !b.Open() {
			t.Errorf("the breaker forgot a failure %s ago", forgetAfter)
		}
		time.Sleep(time.Second)
		if b.Open() {
			t.Error("the breaker is open without any evidence of the last minute")
		}
		time.Sleep(12 * time.Hour)
		home.back.Store(true)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := b.Record(t.Context(), aPunch("morning")); err != nil {
					t.Errorf("a punch 12 hours after the outage: %v", err)
				}
			})
		}
		wg.Wait()
		mustClose(t, b)
	})
}

// TestTheBreakerStaysOpenWhileWritesAreTried sends one punch a minute to a home that does not answer. That is enough
// evidence for an alert that waits for a minute of an open breaker.
func TestTheBreakerStaysOpenWhileWritesAreTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var home outage
		b := mustBatcher(t, Config{}, &home)
		home.punchWithin(t, b, 15*time.Second)
		for minute := range 10 {
			for range 45 {
				time.Sleep(time.Second)
				if !b.Open() {
					t.Fatalf("closed in minute %d", minute)
				}
			}
			home.punchWithin(t, b, 15*time.Second)
		}
		mustClose(t, b)
	})
}

func TestALoneFailureDoesNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var home outage
		b := mustBatcher(t, Config{}, &home)
		home.punchWithin(t, b, time.Second)
		home.back.Store(true)
		time.Sleep(30 * time.Second)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := b.Record(t.Context(), aPunch("x")); err != nil {
					t.Errorf("30 s after a lone failure: %v", err)
				}
			})
		}
		wg.Wait()
		mustClose(t, b)
	})
}
