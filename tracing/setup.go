// Package tracing is how Punchclock shows what it does: it sets OpenTelemetry
// up from the standard OTEL_* environment variables, names the attributes, and
// follows single punches through work that is done in batches. It decides
// nothing about a punch, and when nobody listens it costs next to nothing.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"
)

// Config says which process this is.
type Config struct {
	Service string // service.name, unless OTEL_SERVICE_NAME gives another
	Version string // service.version
	Node    string // service.instance.id, unique per process start
	Region  string // cloud.region
	Log     *slog.Logger
}

// Telemetry is what a process observes itself with. Nothing of it is global.
type Telemetry struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	// Propagator carries the W3C trace context and nothing else: baggage
	// would let a caller put data into every call between nodes.
	Propagator propagation.TextMapPropagator
	// MetricsHandler serves all metrics in Prometheus' format.
	MetricsHandler http.Handler

	spans    *spans
	metrics  *sdkmetric.MeterProvider
	stopOnce sync.Once
	stopErr  error
}

// shutdownLimit bounds Shutdown whatever its context allows. A node has
// about 25 s to stop, and a dead collector must not use them up.
const shutdownLimit = 3 * time.Second

// Setup reads the OTEL_* environment variables and starts what they ask for.
// An error names the variable that is wrong. It opens no connection, so a
// collector that is away delays nothing.
//
// Where it differs from OpenTelemetry's defaults:
//   - without OTEL_TRACES_EXPORTER spans are exported (by OTLP) only if an OTLP
//     endpoint is given; when they are not, no span is sampled, yet every
//     request has a trace id for its receipt and its log lines;
//   - metrics are always served by MetricsHandler; OTEL_METRICS_EXPORTER adds
//     otlp or console to that;
//   - queue, delay and time-out of the export are those of exportDefaults, and
//     a span takes maxLinks links, each unless its variable is set.
func Setup(ctx context.Context, cfg Config) (*Telemetry, error) {
	complain := newComplaints(cfg.Log)
	res, err := newResource(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	sampler, err := samplerFromEnv()
	if err != nil {
		return nil, err
	}
	spans, err := newSpans(ctx, res, sampler, complain)
	if err != nil {
		return nil, err
	}
	meters, handler, err := newMetrics(ctx, res, cfg)
	if err != nil {
		return nil, errors.Join(err, spans.shutdown(ctx))
	}
	if err := spans.observe(meters); err != nil {
		return nil, errors.Join(err, spans.shutdown(ctx), meters.Shutdown(ctx))
	}
	return &Telemetry{
		TracerProvider: spans.provider,
		MeterProvider:  meters,
		Propagator:     propagation.TraceContext{},
		MetricsHandler: handler,
		spans:          spans,
		metrics:        meters,
	}, nil
}

// Shutdown sends what is still queued, for at most shutdownLimit, and stops.
// Call it last: metrics end with it. Further calls return the first result.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
		defer cancel()
		t.stopErr = errors.Join(t.spans.shutdown(ctx), t.metrics.Shutdown(ctx))
	})
	return t.stopErr
}
