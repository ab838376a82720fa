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

// TestTheCircuitOpensWithoutCommitsAndClosesWithOne lets a home answer nothing:
// the first callers wait, later ones are refused at once but for a probe, and
// all flows again with the first write that works.
func TestTheCircuitOpensWithoutCommitsAndClosesWithOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Bool
		l := mustLane(t, Config{Flushes: 2}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			if back.Load() {
				return record(ctx, items)
			}
			<-ctx.Done()
			out := make([]punch.Outcome, len(items))
			for i := range out {
				out[i].Err = punch.Retryable(punch.Unavailable, time.Second, "away", ctx.Err())
			}
			return out
		}))
		var refused, waited atomic.Int64
		var wg sync.WaitGroup
		for range 300 { // 30 s of a punch each 100 ms, with deadlines of 15 s
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				start := time.Now()
				if _, err := l.Record(ctx, aPunch("x")); punch.CodeOf(err) != punch.Unavailable {
					t.Errorf("an item of a home that is away: %v", err)
				}
				if time.Since(start) == 0 {
					refused.Add(1)
				} else {
					waited.Add(1)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		// The first 10 s wait; of the other 20 s one item a second is a probe.
		if n := waited.Load(); n < 100 || n > 125 || refused.Load() != 300-n {
			t.Errorf("%d callers waited and %d were refused at once", n, refused.Load())
		}
		if !l.Open() {
			t.Error("the circuit is closed although nothing worked for 30 s")
		}
		back.Store(true)
		time.Sleep(probeEvery)
		if _, err := l.Record(t.Context(), aPunch("probe")); err != nil {
			t.Errorf("the probe: %v", err)
		}
		for range 10 {
			if _, err := l.Record(t.Context(), aPunch("after")); err != nil {
				t.Errorf("after the probe worked: %v", err)
			}
		}
		mustClose(t, l)
	})
}

func TestALoneFailureDoesNotOpenTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		l := mustLane(t, Config{}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			if !works.Load() {
				time.Sleep(time.Second)
				return []punch.Outcome{{Err: punch.Retryable(punch.Unavailable, time.Second, "away", nil)}}
			}
			return record(ctx, items)
		}))
		_, _ = l.Record(t.Context(), aPunch("x"))
		works.Store(true)
		time.Sleep(time.Hour)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := l.Record(t.Context(), aPunch("x")); err != nil {
					t.Errorf("an hour after a lone failure: %v", err)
				}
			})
		}
		wg.Wait()
		mustClose(t, l)
	})
}
