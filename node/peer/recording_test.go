package peer

import (
	"context"
	"log/slog"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/batcher"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/punch/punchtest"
)

type writerFunc func(ctx context.Context, items []punch.Item) []punch.Outcome

func (f writerFunc) Write(ctx context.Context, items []punch.Item) []punch.Outcome {
	return f(ctx, items)
}

// TestRecording calls a node over HTTP/2 that writes through a real batcher.
func TestRecording(t *testing.T) {
	punchtest.TestRecording(t, func(t *testing.T, write punchtest.Write) punchtest.RecordBatch {
		b, err := batcher.New(batcher.Config{
			Home: home, Kind: "database", MaxItems: 10_000, MaxBytes: 10 << 20, MaxBatchItems: 16, MaxWrites: 2,
		}, batcher.Deps{
			Writer: writerFunc(write), Log: slog.New(slog.DiscardHandler),
			Meter: metricnoop.NewMeterProvider(), Tracer: tracenoop.NewTracerProvider(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close(context.Background()) }) // nothing waits
		addr, client := mustServe(t, b), mustClient(t, nil)
		return func(items []punch.Item) []punch.Outcome {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			out, _, err := client.RecordBatch(ctx, home, addr, items)
			if err != nil {
				t.Errorf("the call failed: %v", err)
			}
			return out
		}
	})
}
