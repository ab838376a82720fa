package httpapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

// discard is a ResponseWriter without any cost.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

type instantRecorder struct{}

func (instantRecorder) Record(_ context.Context, p punch.Punch) (punch.Receipt, error) {
	p.Route = punch.Route{HomeRegion: "eu-west", Zone: "Europe/Berlin", UTCOffset: 3600}
	return p.Receipt(now), nil
}

const benchPunch = `{"id":"019ca868-db4d-7c3e-8a54-2f1de07b9a11","employee":"e-1042","kind":"in","at":"2026-03-01T08:59:30.125+01:00","source":"gate-3"}`

// BenchmarkRecordPunch measures the whole cost of a punch in this package and in auth. Tracing is on, and the punch is not
// sampled.
func BenchmarkRecordPunch(b *testing.B) {
	h := newHarness(b, func(_ *Config, d *Deps) {
		d.Recorder = instantRecorder{}
		d.Log = slog.New(slog.DiscardHandler)
		d.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	})
	run(b, h, h.as(b, auth.Kiosk, "gate"))
}

// BenchmarkBareHandler decodes the same JSON and answers about the same bytes. The difference to BenchmarkRecordPunch is
// the cost of this package.
func BenchmarkBareHandler(b *testing.B) {
	run(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p wirePunch
		if err := json.UnmarshalRead(r.Body, &p); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.MarshalWrite(w, wireReceipt{
			ID: p.ID, Company: "acme", Employee: p.Employee, Kind: p.Kind, PunchedAt: *p.At, ReceivedAt: *p.At, RecordedAt: *p.At,
			Zone: "Europe/Berlin", UTCOffset: "+01:00", HomeRegion: "eu-west", EntryRegion: "us-east", Marks: []string{},
		})
	}), "")
}

func run(b *testing.B, handler http.Handler, authorization string) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://127.0.0.1/v1/punches", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {authorization}}
	req.ContentLength = int64(len(benchPunch))
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: make(http.Header, 8)}
		req.Body = io.NopCloser(strings.NewReader(benchPunch))
		handler.ServeHTTP(w, req)
		if w.status != http.StatusCreated {
			b.Fatalf("answered %d", w.status)
		}
	}
}
