package dispatch

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/batcher"
	"github.com/punchclock/punchclock/node/peer"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/punch/punchtest"
	"github.com/punchclock/punchclock/region"
)

type batchWriterFunc func(ctx context.Context, items []punch.Item) []punch.Outcome

func (f batchWriterFunc) Write(ctx context.Context, items []punch.Item) []punch.Outcome {
	return f(ctx, items)
}

func openBatcher(home region.Name, kind string, w Writer) (Batcher, error) {
	return batcher.New(batcher.Config{
		Home: string(home), Kind: kind, MaxItems: 10_000, MaxBytes: 10 << 20, MaxBatchItems: 16, MaxWrites: 2,
	}, batcher.Deps{
		Writer: w, Log: slog.New(slog.DiscardHandler), Meter: metricnoop.NewMeterProvider(), Tracer: tracenoop.NewTracerProvider(),
	})
}

// mustNode makes the dispatch of a node with real batchers and a real peer client. The candidates are the nodes of the
// home region that it may call.
func mustNode(t *testing.T, write punchtest.Write, candidates []region.Candidate) *Dispatch {
	t.Helper()
	w := &world{cached: home(punchtest.Home, 1), candidate: candidates}
	client := peer.NewClient(nil)
	t.Cleanup(client.Close)
	d, err := New(Config{MaxFutureSkew: time.Minute, CallTimeout: 5 * time.Second, Capacity: 10}, Deps{
		Directory: w, Router: w, Store: w, Peers: client, Present: func(string) bool { return true },
		OpenLocal: func(_ context.Context, home region.Name) (Batcher, error) {
			return openBatcher(home, "database", batchWriterFunc(write))
		},
		OpenRemote: func(home region.Name, w Writer) (Batcher, error) { return openBatcher(home, "peer", w) },
		Log:        slog.New(slog.DiscardHandler), Meter: metricnoop.NewMeterProvider(), Tracer: tracenoop.NewTracerProvider(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestRecording records through one node, and through an entry node that forwards to a home node over HTTP/2.
func TestRecording(t *testing.T) {
	var forwarded atomic.Int64
	for name, open := range map[string]func(t *testing.T, write punchtest.Write) punchtest.RecordBatch{
		"at home": func(t *testing.T, write punchtest.Write) punchtest.RecordBatch {
			return mustNode(t, write, nil).RecordBatch
		},
		"without a peer": func(t *testing.T, write punchtest.Write) punchtest.RecordBatch {
			return punchtest.Each(mustNode(t, write, nil).Record)
		},
		"forwarded": func(t *testing.T, write punchtest.Write) punchtest.RecordBatch {
			homeNode := mustNode(t, func(ctx context.Context, items []punch.Item) []punch.Outcome {
				forwarded.Add(int64(len(items)))
				return write(ctx, items)
			}, nil)
			server := httptest.NewUnstartedServer(peer.NewHandler(peer.Deps{Home: homeNode, Gate: admission.Open{}, Tracer: tracenoop.NewTracerProvider()}))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			t.Cleanup(server.Close)
			return punchtest.Each(mustNode(t, write, candidates(server.Listener.Addr().String())).Record)
		},
	} {
		t.Run(name, func(t *testing.T) { punchtest.TestRecording(t, open) })
	}
	if forwarded.Load() == 0 {
		t.Error("no punch was forwarded")
	}
}
