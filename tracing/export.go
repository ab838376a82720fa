package tracing

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// The spans of one busy second, some 16 MB. A full queue drops spans: a punch never waits for its spans.
	queueSpans = 8192
	// OpenTelemetry waits 5 s. With 1 s a person finds the trace of a new receipt at once, at the cost of one small
	// request a second.
	exportDelay = time.Second
	// OpenTelemetry allows 30 s. A collector in the same region answers in milliseconds. A collector that hangs keeps
	// the queue full for this long.
	exportTimeout = 5 * time.Second
	// OpenTelemetry's 128 would cut the links of a full batch, which has 512 items by default.
	maxLinks = 1024
	// abandonGrace is how long an export may go on after abandon. Only a write to a blocked pipe does not end at once.
	abandonGrace = 500 * time.Millisecond
)

// exportDefaults returns the options whose environment variables are not set.
func exportDefaults() []sdktrace.BatchSpanProcessorOption {
	var opts []sdktrace.BatchSpanProcessorOption
	for variable, opt := range map[string]sdktrace.BatchSpanProcessorOption{
		"OTEL_BSP_MAX_QUEUE_SIZE": sdktrace.WithMaxQueueSize(queueSpans),
		"OTEL_BSP_SCHEDULE_DELAY": sdktrace.WithBatchTimeout(exportDelay),
		"OTEL_BSP_EXPORT_TIMEOUT": sdktrace.WithExportTimeout(exportTimeout),
	} {
		if os.Getenv(variable) == "" {
			opts = append(opts, opt)
		}
	}
	return opts
}

// spans is the provider and its exporter, which is nil if no spans are exported.
type spans struct {
	provider *sdktrace.TracerProvider
	exporter *exporter
}

func newSpans(ctx context.Context, res *resource.Resource, sampler sdktrace.Sampler, log *rateLimitedLog) (*spans, error) {
	limits := sdktrace.NewSpanLimits()
	if os.Getenv("OTEL_SPAN_LINK_COUNT_LIMIT") == "" {
		limits.LinkCountLimit = maxLinks
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithRawSpanLimits(limits)}
	next, err := newSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_*: %w", err)
	}
	if next == nil {
		// Requests still get trace ids. Recording spans would be waste.
		return &spans{provider: sdktrace.NewTracerProvider(append(opts, sdktrace.WithSampler(sdktrace.NeverSample()))...)}, nil
	}
	e := newExporter(next, log)
	queue := countingQueue{sdktrace.NewBatchSpanProcessor(e, exportDefaults()...), &e.ended}
	provider := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(queue))...)
	return &spans{provider: provider, exporter: e}, nil
}

// newSpanExporter returns nil if the settings export no spans.
func newSpanExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	if os.Getenv("OTEL_TRACES_EXPORTER") == "" &&
		os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil, nil
	}
	e, err := autoexport.NewSpanExporter(ctx)
	if err != nil || autoexport.IsNoneSpanExporter(e) {
		return nil, err
	}
	return e, nil
}

// shutdown sends the queued spans until ctx ends, and drops the rest.
func (s *spans) shutdown(ctx context.Context) error {
	if s.exporter == nil {
		return s.provider.Shutdown(ctx)
	}
	defer s.exporter.abandon()
	defer context.AfterFunc(ctx, s.exporter.abandon)()
	// The provider gets a longer context: with an ended context it does not stop its queue. It stops at once when
	// abandon ends the exports.
	longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit+abandonGrace)
	defer cancel()
	err := s.provider.Shutdown(longer)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("spans not sent: %w", err)
	}
	return nil
}

// observe registers a metric of the spans. Nothing else shows that the collector is away.
func (s *spans) observe(meters metric.MeterProvider) error {
	if s.exporter == nil {
		return nil
	}
	e := s.exporter
	_, err := meters.Meter(scope).Int64ObservableCounter("punchclock.tracing.spans",
		metric.WithUnit("{span}"),
		metric.WithDescription("Sampled spans, by outcome. Spans that ended and were not exported wait, failed, or were dropped."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(e.ended.Load(), metric.WithAttributes(attribute.String("outcome", "ended")))
			o.Observe(e.exported.Load(), metric.WithAttributes(attribute.String("outcome", "exported")))
			o.Observe(e.failed.Load(), metric.WithAttributes(attribute.String("outcome", "failed")))
			return nil
		}))
	return err
}

const scope = "github.com/punchclock/punchclock/tracing"

// countingQueue counts the spans that enter the SDK's bounded queue. A full queue drops spans and never blocks.
type countingQueue struct {
	sdktrace.SpanProcessor
	ended *atomic.Int64
}

// OnEnd queues a span.
func (q countingQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	q.ended.Add(1)
	q.SpanProcessor.OnEnd(s)
}

// exporter limits the effect of a failing collector. It counts and logs lost spans, and abandon ends its exports. The
// SDK's queue cannot give up: its shutdown takes one timeout for each queued batch.
type exporter struct {
	next sdktrace.SpanExporter
	log  *rateLimitedLog

	ended, exported, failed atomic.Int64

	// lifetime is the context of all exports. abandon cancels it.
	lifetime context.Context
	abandon  context.CancelFunc
}

func newExporter(next sdktrace.SpanExporter, log *rateLimitedLog) *exporter {
	lifetime, abandon := context.WithCancel(context.Background())
	return &exporter{next: next, log: log, lifetime: lifetime, abandon: abandon}
}

// ExportSpans sends spans or drops them. It returns no error, because the SDK could only print it.
func (e *exporter) ExportSpans(ctx context.Context, batch []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.lifetime, cancel)()
	if err := e.next.ExportSpans(ctx, batch); err != nil {
		lost := e.failed.Add(int64(len(batch)))
		e.log.warn("spans lost: the trace collector does not accept them", "error", err, "lost_so_far", lost)
		return nil
	}
	e.exported.Add(int64(len(batch)))
	return nil
}

// Shutdown ends the exporter after the queue is empty.
func (e *exporter) Shutdown(ctx context.Context) error { return e.next.Shutdown(ctx) }
