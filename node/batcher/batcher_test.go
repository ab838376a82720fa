package batcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writerFunc is a Writer made of a function.
type writerFunc func(ctx context.Context, items []punch.Item) []punch.Outcome

func (f writerFunc) Write(ctx context.Context, items []punch.Item) []punch.Outcome {
	return f(ctx, items)
}

// record answers each item with a receipt of its own.
func record(_ context.Context, items []punch.Item) []punch.Outcome {
	out := make([]punch.Outcome, len(items))
	for i := range items {
		out[i].Receipt = items[i].Receipt(time.Now())
	}
	return out
}

// mustBatcher makes a batcher with small bounds where cfg has none.
func mustBatcher(tb testing.TB, cfg Config, w Writer) *Batcher {
	tb.Helper()
	cfg.Home, cfg.Kind = cmp.Or(cfg.Home, "eu-west"), cmp.Or(cfg.Kind, "database")
	cfg.MaxItems, cfg.MaxBytes = cmp.Or(cfg.MaxItems, 1000), cmp.Or(cfg.MaxBytes, 1<<20)
	cfg.MaxBatchItems, cfg.MaxWrites = cmp.Or(cfg.MaxBatchItems, 16), cmp.Or(cfg.MaxWrites, 2)
	b, err := New(cfg, Deps{
		Writer: w, Log: slog.New(slog.NewTextHandler(tb.Output(), nil)),
		Tracer: tracenoop.NewTracerProvider(), Meter: metricnoop.NewMeterProvider(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func mustClose(tb testing.TB, b *Batcher) {
	tb.Helper()
	if err := b.Close(context.Background()); err != nil {
		tb.Error(err)
	}
}

func aPunch(employee string) punch.Punch {
	return punch.Punch{Request: punch.Request{Company: "acme", Employee: employee, ID: punch.NewID(), Kind: punch.In}}
}

// TestEveryCallerGetsItsOwnOutcome drives a batcher with random bounds from many callers, some of which fail. Group commit
// must never mix up their outcomes.
func TestEveryCallerGetsItsOwnOutcome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Home: "eu-west", Kind: "database",
			MaxItems: rapid.IntRange(1, 64).Draw(t, "max items"), MaxBytes: rapid.IntRange(600, 40_000).Draw(t, "max bytes"),
			MaxBatchItems: rapid.IntRange(1, 9).Draw(t, "batch"), MaxWrites: rapid.IntRange(1, 4).Draw(t, "writes"),
		}
		var inFlight, most, written atomic.Int64
		b, err := New(cfg, Deps{Writer: writerFunc(func(_ context.Context, items []punch.Item) []punch.Outcome {
			n := inFlight.Add(1)
			defer inFlight.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			if len(items) > cfg.MaxBatchItems {
				t.Errorf("a batch of %d items, at most %d", len(items), cfg.MaxBatchItems)
			}
			written.Add(int64(len(items)))
			out := record(context.Background(), items)
			for i := range items {
				if strings.HasPrefix(items[i].Employee, "bad") {
					out[i] = punch.Outcome{Err: punch.InvalidField("note", "poison of %s", items[i].Employee)}
				}
			}
			return out
		}), Log: slog.New(slog.DiscardHandler), Tracer: tracenoop.NewTracerProvider(), Meter: metricnoop.NewMeterProvider()})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var completed atomic.Int64
		for i := range rapid.IntRange(1, 60).Draw(t, "callers") {
			bad := rapid.Bool().Draw(t, "bad")
			wg.Go(func() {
				employee := fmt.Sprintf("good-%d", i)
				if bad {
					employee = fmt.Sprintf("bad-%d", i)
				}
				p := aPunch(employee)
				receipt, err := b.Record(context.Background(), p)
				switch punch.CodeOf(err) {
				case "":
					completed.Add(1)
					if bad || receipt.ID != p.ID || receipt.Employee != employee {
						t.Errorf("%s was given the receipt of %s", employee, receipt.Employee)
					}
				case punch.Invalid:
					completed.Add(1)
					if !strings.Contains(err.Error(), employee) {
						t.Errorf("%s was given the error %v", employee, err)
					}
				case punch.Overloaded: // the bounds are small
				default:
					t.Errorf("%s: %v", employee, err)
				}
			})
		}
		wg.Wait()
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if most.Load() > int64(cfg.MaxWrites) {
			t.Errorf("%d writes in flight, at most %d", most.Load(), cfg.MaxWrites)
		}
		if written.Load() != completed.Load() {
			t.Errorf("%d items written, %d callers got an outcome", written.Load(), completed.Load())
		}
	})
}

func TestAnIdleBatcherWritesAtOnceAndABusyOneInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		b := mustBatcher(t, Config{MaxWrites: 1}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			sizes = append(sizes, len(items))
			time.Sleep(time.Second)
			return record(ctx, items)
		}))
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = b.Record(t.Context(), aPunch("first")) })
		synctest.Wait() // the first write is under way: it did not wait for more items
		for i := range 10 {
			wg.Go(func() { _, _ = b.Record(t.Context(), aPunch(fmt.Sprint(i))) })
		}
		wg.Wait()
		if fmt.Sprint(sizes) != "[1 10]" {
			t.Errorf("batches of %v, want 1 and then the 10 that came during the first write", sizes)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %s, want the 2s of two writes and no linger time", took)
		}
		mustClose(t, b)
	})
}

func TestBoundsRefuseAtOnce(t *testing.T) {
	for name, cfg := range map[string]Config{
		"items": {MaxItems: 3},
		"bytes": {MaxBytes: 3*(&punch.Punch{Request: punch.Request{Company: "acme", Employee: "w0"}}).Size() + 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				cfg.MaxWrites, cfg.MaxBatchItems = 1, 1
				b := mustBatcher(t, cfg, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
					<-release
					return record(ctx, items)
				}))
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = b.Record(t.Context(), aPunch("w0")) }) // in flight, not waiting
				synctest.Wait()
				for i := range 3 {
					wg.Go(func() {
						if _, err := b.Record(t.Context(), aPunch(fmt.Sprintf("w%d", i))); err != nil {
							t.Errorf("a punch within the bounds: %v", err)
						}
					})
				}
				synctest.Wait()
				_, err := b.Record(t.Context(), aPunch("w9"))
				if punch.CodeOf(err) != punch.Overloaded || punch.AsError(err).RetryAfter <= 0 {
					t.Errorf("a punch beyond the bounds: %v", err)
				}
				close(release)
				wg.Wait()
				mustClose(t, b)
			})
		})
	}
}

func TestADeadlineThatCannotBeMetIsRefusedBeforeItIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBatcher(t, Config{MaxWrites: 1, MaxBatchItems: 1}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			time.Sleep(time.Second)
			return record(ctx, items)
		}))
		if _, err := b.Record(t.Context(), aPunch("first")); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() { _, _ = b.Record(t.Context(), aPunch(fmt.Sprint(i))) })
			synctest.Wait()
		}
		short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := b.Record(short, aPunch("in a hurry"))
		if punch.CodeOf(err) != punch.Overloaded || time.Since(start) != 0 {
			t.Errorf("refused with %v after %s, want at once", err, time.Since(start))
		}
		long, cancel2 := context.WithTimeout(t.Context(), time.Minute)
		defer cancel2()
		if _, err := b.Record(long, aPunch("patient")); err != nil {
			t.Errorf("a deadline that can be met: %v", err)
		}
		wg.Wait()
		mustClose(t, b)
	})
}

// TestFailedWritesDoNotChangeTheEstimate lets writes fail slowly, as in an outage. After the outage the batcher must admit
// as before it.
func TestFailedWritesDoNotChangeTheEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outage := true
		b := mustBatcher(t, Config{MaxWrites: 1, MaxBatchItems: 1}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			if outage {
				time.Sleep(10 * time.Second)
				return []punch.Outcome{{Err: punch.Retryable(punch.Unavailable, time.Second, "away", nil)}}
			}
			return record(ctx, items)
		}))
		for range 3 {
			_, _ = b.Record(t.Context(), aPunch("during"))
		}
		outage = false
		if b.pace.write != 0 {
			t.Errorf("after an outage the estimate is %s", b.pace.write)
		}
		mustClose(t, b)
	})
}

// TestAFailoverDoesNotInflateTheEstimate lets the writes in flight outlast a failover. Afterwards writes are as quick as
// before it, and the batcher must admit every item that it can write in time.
func TestAFailoverDoesNotInflateTheEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes := 5 * time.Millisecond
		b := mustBatcher(t, Config{MaxWrites: 4, MaxBatchItems: 1}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			time.Sleep(takes)
			return record(ctx, items)
		}))
		burst := func(n int) {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
					defer cancel()
					if _, err := b.Record(ctx, aPunch(fmt.Sprint("e", i))); err != nil {
						t.Errorf("punch %d of %d: %v", i, n, err)
					}
				})
			}
			wg.Wait()
		}
		burst(40)
		takes = 7 * time.Second
		burst(4) // as many as may be in flight
		takes = 5 * time.Millisecond
		burst(100)
		mustClose(t, b)
	})
}

func TestACallerThatLeftIsNotWrittenFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var written []string
		b := mustBatcher(t, Config{MaxWrites: 1}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			<-release
			for _, it := range items {
				written = append(written, it.Employee)
			}
			return record(ctx, items)
		}))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = b.Record(t.Context(), aPunch("first")) })
		synctest.Wait()
		leaves, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := b.Record(leaves, aPunch("leaves")); punch.CodeOf(err) != punch.Unavailable || !errors.Is(err, context.Canceled) {
				t.Errorf("a caller that left was told %v", err)
			}
		})
		wg.Go(func() { _, _ = b.Record(t.Context(), aPunch("stays")) })
		synctest.Wait()
		leave()
		synctest.Wait()
		close(release)
		wg.Wait()
		if fmt.Sprint(written) != "[first stays]" {
			t.Errorf("written: %v", written)
		}
		mustClose(t, b)
	})
}

func TestCloseWritesAcceptedItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBatcher(t, Config{MaxWrites: 1, MaxBatchItems: 2}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			time.Sleep(time.Second)
			return record(ctx, items)
		}))
		var wg sync.WaitGroup
		var recorded atomic.Int64
		for i := range 9 {
			wg.Go(func() {
				if _, err := b.Record(t.Context(), aPunch(fmt.Sprint(i))); err == nil {
					recorded.Add(1)
				}
			})
		}
		synctest.Wait()
		mustClose(t, b)
		wg.Wait()
		if recorded.Load() != 9 {
			t.Errorf("%d of 9 accepted punches were recorded", recorded.Load())
		}
		if _, err := b.Record(t.Context(), aPunch("late")); punch.CodeOf(err) != punch.Unavailable {
			t.Errorf("after Close: %v", err)
		}
		mustClose(t, b) // again
	})
}

func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBatcher(t, Config{}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			<-ctx.Done() // a database that answers nothing
			return []punch.Outcome{{Err: punch.Retryable(punch.Unavailable, time.Second, "away", ctx.Err())}}
		}))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := b.Record(t.Context(), aPunch("stuck")); punch.CodeOf(err) != punch.Unavailable {
				t.Errorf("the caller was told %v", err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := b.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("Close returned %v after %s", err, time.Since(start))
		}
		wg.Wait()
	})
}

// TestStartStopStress closes batchers under load. No call hangs, no goroutine leaks, and every caller gets an outcome.
func TestStartStopStress(t *testing.T) {
	for range 200 {
		b := mustBatcher(t, Config{}, writerFunc(record))
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := b.Record(context.Background(), aPunch(fmt.Sprint(i)))
				if code := punch.CodeOf(err); code != "" && code != punch.Unavailable {
					t.Errorf("told %v", err)
				}
			})
		}
		mustClose(t, b)
		wg.Wait()
	}
}
