package tracing_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/tracing"
)

// setenv sets the given OTEL_ variables and clears all others.
func setenv(t *testing.T, vars map[string]string) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	for name, value := range vars {
		t.Setenv(name, value)
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func mustSetup(t *testing.T, node, region string, log io.Writer) *tracing.Telemetry {
	t.Helper()
	tel, err := tracing.Setup(t.Context(), tracing.Config{
		Service: "punchclock", Version: "v1.2.3", Node: node, Region: region,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatalf("Setup: %v", err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) }) // each test checks the result itself
	return tel
}

func TestWithoutExporterThereAreIDsAndNoSpans(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"nothing set":    nil,
		"none":           {"OTEL_TRACES_EXPORTER": "none"},
		"none, all on":   {"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "always_on"},
		"none, endpoint": {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, vars)
			tel := mustSetup(t, "n1", "us-east", io.Discard)
			ctx, span := tel.TracerProvider.Tracer("test").Start(t.Context(), "request")
			defer span.End()
			if id := tracing.TraceID(ctx); len(id) != 32 {
				t.Errorf("trace id is %q, want 32 hex digits", id)
			}
			if span.IsRecording() || tracing.Sampled(ctx) {
				t.Error("the span is recorded although no exporter gets it")
			}
		})
	}
}

func TestErrorNamesTheVariable(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"OTEL_TRACES_SAMPLER":     {"OTEL_TRACES_SAMPLER": "sometimes"},
		"OTEL_TRACES_SAMPLER_ARG": {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"},
		"OTEL_TRACES_EXPORTER":    {"OTEL_TRACES_EXPORTER": "carrier pigeon"},
		"OTEL_METRICS_EXPORTER":   {"OTEL_METRICS_EXPORTER": "carrier pigeon"},
		"OTEL_EXPORTER_OTLP_":     {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, vars)
			_, err := tracing.Setup(t.Context(), tracing.Config{Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("Setup with %v returned %v, want an error that names %s", vars, err, name)
			}
		})
	}
}

// startSink starts a collector that receives the spans of each later Setup of the test.
func startSink(t *testing.T, vars map[string]string) *traceview.Server {
	t.Helper()
	sink, err := traceview.Start("127.0.0.1:0", traceview.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sink.Close(context.Background()); err != nil {
			t.Errorf("closing the sink: %v", err)
		}
	})
	// A busy machine may be slow. No span may be lost to a timeout.
	setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": sink.URL, "OTEL_BSP_EXPORT_TIMEOUT": "60000", "OTEL_EXPORTER_OTLP_TIMEOUT": "60000"})
	for name, value := range vars {
		t.Setenv(name, value)
	}
	return sink
}

func TestSampling(t *testing.T) {
	remote := func(flags trace.TraceFlags) context.Context {
		return trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags,
		}))
	}
	for _, c := range []struct {
		sampler, arg                     string
		root, belowSampled, belowDropped bool
	}{
		{sampler: "", root: true, belowSampled: true},
		{sampler: "parentbased_always_on", root: true, belowSampled: true},
		{sampler: "parentbased_always_off", belowSampled: true},
		{sampler: "parentbased_traceidratio", arg: "0", belowSampled: true},
		{sampler: "parentbased_traceidratio", root: true, belowSampled: true},
		{sampler: "ParentBased_TraceIDRatio", arg: "1", root: true, belowSampled: true},
		{sampler: "always_on", root: true, belowSampled: true, belowDropped: true},
		{sampler: "always_off"},
		{sampler: "traceidratio", arg: "1.0", root: true, belowSampled: true, belowDropped: true},
	} {
		t.Run(c.sampler+c.arg, func(t *testing.T) {
			startSink(t, map[string]string{"OTEL_TRACES_SAMPLER": c.sampler, "OTEL_TRACES_SAMPLER_ARG": c.arg})
			tracer := mustSetup(t, "n1", "us-east", io.Discard).TracerProvider.Tracer("test")
			for name, check := range map[string]struct {
				parent context.Context
				want   bool
			}{
				"a root":                     {t.Context(), c.root},
				"below a sampled parent":     {remote(trace.FlagsSampled), c.belowSampled},
				"below a dropped parent":     {remote(0), c.belowDropped},
				"a root of a public request": {trace.ContextWithSpanContext(remote(trace.FlagsSampled), trace.SpanContext{}), c.root},
			} {
				ctx, span := tracer.Start(check.parent, "x")
				span.End()
				if got := tracing.Sampled(ctx); got != check.want {
					t.Errorf("%s: sampled is %v, want %v", name, got, check.want)
				}
			}
		})
	}
}

// waitLimit is the limit of every wait in these tests. A test that passes never needs it.
const waitLimit = time.Minute

// mustFlush sends all queued spans. Shutdown alone could lose them, because it takes at most 3 s.
func mustFlush(t *testing.T, list ...*tracing.Telemetry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	for _, tel := range list {
		if err := tel.TracerProvider.(interface{ ForceFlush(context.Context) error }).ForceFlush(ctx); err != nil {
			t.Fatal(err)
		}
		if err := tel.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResourceDescribesTheProcess(t *testing.T) {
	sink := startSink(t, map[string]string{"OTEL_SERVICE_NAME": "punchclock-staging", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"})
	tel := mustSetup(t, "eu-west-a-7", "eu-west", io.Discard)
	_, span := tel.TracerProvider.Tracer("test").Start(t.Context(), "request")
	span.End()
	mustFlush(t, tel)
	got, ok := sink.Trace(span.SpanContext().TraceID().String())
	if !ok {
		t.Fatalf("the trace did not arrive; the sink has %v", sink.All())
	}
	p := got.Spans[0].Process
	if p.Service != "punchclock-staging" || p.Instance != "eu-west-a-7" || p.Region != "eu-west" || p.PID == "" {
		t.Errorf("process is %+v, want punchclock-staging, eu-west-a-7 in eu-west, with a pid", p)
	}
}

// TestShutdownSendsQueuedSpans ends a process right after a span has ended.
func TestShutdownSendsQueuedSpans(t *testing.T) {
	sink := startSink(t, map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "3600000"}) // only Shutdown can send the span
	tel := mustSetup(t, "n1", "us-east", io.Discard)
	_, span := tel.TracerProvider.Tracer("test").Start(t.Context(), "request")
	span.End()
	err := tel.Shutdown(t.Context())
	_, arrived := sink.Trace(span.SpanContext().TraceID().String())
	if err == nil && !arrived {
		t.Error("Shutdown reports success, but the span has not arrived")
	}
	// A machine that is too busy for one request in 3 s may lose the span. Then Shutdown must report it.
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returns %v, want nil or a deadline exceeded", err)
	}
}

// silentCollector accepts connections, reads nothing and never answers.
func silentCollector(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return "http://" + listener.Addr().String()
}

// closedPort returns the URL of an address at which no process listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // only its address is needed
	return "http://" + listener.Addr().String()
}

func TestDeadCollectorCostsOnlySpans(t *testing.T) {
	// More spans than the queue and all batches in flight have room for. If End waited for one export timeout for each
	// batch, it would take five minutes.
	const spans = 30_000
	for name, start := range map[string]func(*testing.T) string{"no listener": closedPort, "never answers": silentCollector} {
		for _, protocol := range []string{"http/protobuf", "grpc"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": start(t), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
				log, started := &syncBuffer{}, time.Now()
				tel := mustSetup(t, "n1", "us-east", log)
				tracer := tel.TracerProvider.Tracer("test")
				began := time.Now()
				for range spans {
					_, span := tracer.Start(t.Context(), "request")
					span.End()
				}
				if took := time.Since(began); took > waitLimit {
					t.Errorf("%d spans took %v, so something waited for the collector", spans, took)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				began = time.Now()
				_ = tel.Shutdown(ctx) // it may succeed or fail
				if took := time.Since(began); took > waitLimit {
					t.Errorf("Shutdown took %v under a context of 200 ms", took)
				}
				lost := func() int { return strings.Count(log.String(), "spans lost") }
				for deadline := time.Now().Add(waitLimit); lost() == 0 && time.Now().Before(deadline); {
					time.Sleep(10 * time.Millisecond)
				}
				// One line in 30 s. A busy machine may take longer than that for this test.
				if n, most := lost(), 1+int(time.Since(started)/(30*time.Second)); n < 1 || n > most {
					t.Errorf("the loss was logged %d times in %s, want 1 to %d:\n%s", n, time.Since(started), most, log)
				}
			})
		}
	}
}

func TestShutdownHasALimit(t *testing.T) {
	setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": silentCollector(t), "OTEL_BSP_EXPORT_TIMEOUT": "3600000"})
	tel := mustSetup(t, "n1", "us-east", io.Discard)
	_, span := tel.TracerProvider.Tracer("test").Start(t.Context(), "request")
	span.End()
	first := tel.Shutdown(context.Background())
	if !errors.Is(first, context.DeadlineExceeded) {
		t.Errorf("Shutdown returned %v, want a deadline exceeded: the span was not sent", first)
	}
	if again := tel.Shutdown(context.Background()); again == nil || again.Error() != first.Error() {
		t.Errorf("the second Shutdown returned %v, want the first result: %v", again, first)
	}
}

func TestShutdownUnderAnEndedContextStopsEverything(t *testing.T) {
	setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": silentCollector(t)})
	tel := mustSetup(t, "n1", "us-east", io.Discard)
	_, span := tel.TracerProvider.Tracer("test").Start(t.Context(), "request")
	span.End()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tel.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown returned %v, want context canceled", err)
	} // goleak looks for remaining goroutines
}

// scrape asks for the metrics as Prometheus does, with these accepted types.
func scrape(t *testing.T, handler http.Handler, accept ...string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header["Accept"] = accept
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("scraping answered %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetricsAreServedAndNotShared(t *testing.T) {
	startSink(t, nil)
	first := mustSetup(t, "n1", "us-east", io.Discard)
	second := mustSetup(t, "n2", "us-east", io.Discard)
	wait, err := first.MeterProvider.Meter("batcher").Float64Histogram("punchclock.queue.wait.duration", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	size, err := first.MeterProvider.Meter("batcher").Int64Histogram("punchclock.batch.size", metric.WithUnit("{punch}"))
	if err != nil {
		t.Fatal(err)
	}
	punches, err := first.MeterProvider.Meter("batcher").Int64Counter("punchclock.batch.punches", metric.WithUnit("{punch}"))
	if err != nil {
		t.Fatal(err)
	}
	wait.Record(t.Context(), 0.0007)
	size.Record(t.Context(), 300)
	punches.Add(t.Context(), 300, metric.WithAttributes(attribute.String("outcome", "new")))
	ctx, span := first.TracerProvider.Tracer("test").Start(t.Context(), "request")
	wait.Record(ctx, 1.5)
	span.End()
	got := scrape(t, first.MetricsHandler)
	for _, want := range []string{
		`punchclock_queue_wait_duration_seconds_bucket{cloud_region="us-east",otel_scope_name="batcher",otel_scope_schema_url="",otel_scope_version="",le="0.001"} 1`,
		`punchclock_batch_size_bucket{cloud_region="us-east",otel_scope_name="batcher",otel_scope_schema_url="",otel_scope_version="",le="512"} 1`,
		`le="2"} 2`,
		`outcome="new"} 300`,
		`outcome="ended"} 1`,
		"go_goroutine_count", "go_schedule_duration_seconds", `process_cpu_seconds_total{cloud_region="us-east"}`, `service_instance_id="n1"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the metrics lack %s:\n%s", want, got)
		}
	}
	// The exemplar leads from a slow bucket to a trace. Rules know the boundary of 2 s as 2 and as 2.0.
	open := scrape(t, first.MetricsHandler, "application/openmetrics-text; version=1.0.0")
	_, slow, _ := strings.Cut(open, `le="2.0"} 2 # {`)
	slow, _, _ = strings.Cut(slow, "\n")
	if id := span.SpanContext().TraceID().String(); !strings.Contains(slow, `trace_id="`+id+`"`) {
		t.Errorf("the bucket up to 2 s has no exemplar of trace %s but %q:\n%s", id, slow, open)
	}
	if other := scrape(t, second.MetricsHandler); strings.Contains(other, "punchclock_batch") {
		t.Errorf("metrics of one process appear in another:\n%s", other)
	}
}

func TestErrorHandlerIsRateLimited(t *testing.T) {
	log := &syncBuffer{}
	handler := tracing.NewErrorHandler(slog.New(slog.NewTextHandler(log, nil)))
	for range 100 {
		handler.Handle(errors.New("no luck"))
	}
	if n := strings.Count(log.String(), "no luck"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log)
	}
}
