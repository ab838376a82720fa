package batcher

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/punch"
)

func items(ctx context.Context, n int) []punch.Item {
	list := make([]punch.Item, n)
	for i := range list {
		list[i] = punch.Item{Ctx: ctx, Punch: aPunch(fmt.Sprint("e", i))}
	}
	return list
}

// TestAForwardedBatchIsOneWrite counts the writes of an idle batcher for items that arrive together. A batch that a node
// forwarded must stay one statement at its home.
func TestAForwardedBatchIsOneWrite(t *testing.T) {
	for range 50 { // the scheduler decides when the first writer looks
		var mu sync.Mutex
		var sizes []int
		b := mustBatcher(t, Config{MaxBatchItems: 512, MaxWrites: 8}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			mu.Lock()
			defer mu.Unlock()
			sizes = append(sizes, len(items))
			return record(ctx, items)
		}))
		for i, o := range b.RecordBatch(items(t.Context(), 512)) {
			if o.Err != nil {
				t.Errorf("item %d: %v", i, o.Err)
			}
		}
		mustClose(t, b)
		if fmt.Sprint(sizes) != "[512]" {
			t.Fatalf("512 items that arrived together were written as %v", sizes)
		}
	}
}

// TestMoreThanOneBatchUsesEveryWriter hands over three batches at once. They must be in flight together.
func TestMoreThanOneBatchUsesEveryWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		b := mustBatcher(t, Config{MaxBatchItems: 10, MaxWrites: 4}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			mu.Lock()
			sizes = append(sizes, len(items))
			mu.Unlock()
			time.Sleep(time.Second)
			return record(ctx, items)
		}))
		start := time.Now()
		b.RecordBatch(items(t.Context(), 25))
		slices.Sort(sizes)
		if took := time.Since(start); fmt.Sprint(sizes) != "[5 10 10]" || took != time.Second {
			t.Errorf("25 items were written as %v in %s, want three writes at once", sizes, took)
		}
		mustClose(t, b)
	})
}

// TestAPanicOfTheWriterFailsItsBatchAlone holds that the process survives, that the callers are told to retry, and that
// the next batch is written.
func TestAPanicOfTheWriterFailsItsBatchAlone(t *testing.T) {
	for name, broken := range map[string]writerFunc{
		"a panic": func(context.Context, []punch.Item) []punch.Outcome { panic("a bug") },
		"an outcome too few": func(_ context.Context, items []punch.Item) []punch.Outcome {
			return make([]punch.Outcome, len(items)-1)
		},
		"one outcome too many": func(_ context.Context, items []punch.Item) []punch.Outcome {
			return make([]punch.Outcome, len(items)+1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			works := false
			b, err := New(Config{Home: "eu-west", Kind: "database", MaxItems: 10, MaxBytes: 1 << 20, MaxBatchItems: 10, MaxWrites: 1}, Deps{
				Writer: writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
					if works {
						return record(ctx, items)
					}
					return broken(ctx, items)
				}),
				Log: slog.New(slog.NewTextHandler(&log, nil)), Tracer: tracenoop.NewTracerProvider(), Meter: metricnoop.NewMeterProvider(),
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, o := range b.RecordBatch(items(t.Context(), 3)) {
				if e := punch.AsError(o.Err); o.Err == nil || e.Code != punch.Unavailable || e.RetryAfter <= 0 {
					t.Errorf("item %d: %v, want Unavailable", i, o.Err)
				}
			}
			works = true
			if _, err := b.Record(t.Context(), aPunch("next")); err != nil {
				t.Errorf("the next punch: %v", err)
			}
			mustClose(t, b)
			if got := log.String(); strings.Count(got, "panic") == 0 || !strings.Contains(got, "writer_test.go") && name == "a panic" {
				t.Errorf("the log does not show the panic and its stack: %s", got)
			}
		})
	}
}

func TestConfigNamesTheField(t *testing.T) {
	good := Config{Home: "eu-west", Kind: "database", MaxItems: 1, MaxBytes: 1, MaxBatchItems: 1, MaxWrites: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, spoil := range map[string]func(*Config){
		"Home": func(c *Config) { c.Home = "" }, "Kind": func(c *Config) { c.Kind = "" },
		"MaxItems": func(c *Config) { c.MaxItems = 0 }, "MaxBytes": func(c *Config) { c.MaxBytes = -1 },
		"MaxBatchItems": func(c *Config) { c.MaxBatchItems = 0 }, "MaxWrites": func(c *Config) { c.MaxWrites = 0 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("a bad %s: %v", field, err)
		}
	}
}

// TestFewItemsMeetInOneWrite sends punches one after the other while a write is in flight. They must not take a writer
// each, and must not wait for the end of that write either. Many items start another writer at once.
func TestFewItemsMeetInOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var writes []string
		b := mustBatcher(t, Config{MaxBatchItems: 512, MaxWrites: 4}, writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
			mu.Lock()
			writes = append(writes, fmt.Sprintf("%d at %s", len(items), time.Since(start)))
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			return record(ctx, items)
		}))
		var callers sync.WaitGroup
		send := func(n int) {
			callers.Go(func() {
				for i, o := range b.RecordBatch(items(t.Context(), n)) {
					if o.Err != nil {
						t.Errorf("item %d: %v", i, o.Err)
					}
				}
			})
			time.Sleep(time.Millisecond)
		}
		for range 4 {
			send(1)
		}
		time.Sleep(4 * time.Millisecond) // the timer of the three has started a writer, and a new one may not start yet
		send(enoughItems)
		callers.Wait()
		mustClose(t, b)
		if want := fmt.Sprintf("[1 at 0s 3 at %s %d at 8ms]", spacing, enoughItems); fmt.Sprint(writes) != want {
			t.Errorf("writes: %v, want %s", writes, want)
		}
	})
}
