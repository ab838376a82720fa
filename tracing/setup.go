// Package tracing sets up OpenTelemetry from the standard OTEL_* environment variables. It names the attributes of
// spans, and traces single punches through batches. It decides nothing about a punch. Without a collector it costs
// almost nothing.
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
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"
)

// Config describes this process.
type Config struct {
	Service string // service.name, unless OTEL_SERVICE_NAME is set
	Version string // service.version
	Node    string // service.instance.id, unique for each start of the process
	Region  string // cloud.region
	Log     *slog.Logger
}

// Telemetry has the tracer provider, the meter provider and the metrics handler of a process. Nothing of it is global.
type Telemetry struct {
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	// MetricsHandler serves all metrics in Prometheus' format.
	MetricsHandler http.Handler

	spans    *spans
	metrics  *sdkmetric.MeterProvider
	stopOnce sync.Once
	stopErr  error
}

// shutdownLimit is the limit of Shutdown, even if its context allows more. A node has about 25 s to stop, and a dead
// collector must not use them.
const shutdownLimit = 3 * time.Second

// Setup reads the OTEL_* environment variables and starts the exporters. An error names the wrong variable. Setup opens
// no connection, so a collector that is away delays nothing.
//
// It differs from OpenTelemetry's defaults:
//   - Without OTEL_TRACES_EXPORTER, spans are exported by OTLP only if an OTLP endpoint is set. If spans are not exported,
//     no span is sampled, but every request still has a trace id for its receipt and its log lines.
//   - MetricsHandler always serves the metrics. OTEL_METRICS_EXPORTER adds otlp or console.
//   - exportDefaults sets queue, delay and timeout of the export, and a span may have maxLinks links, unless the variables
//     are set.
func Setup(ctx context.Context, cfg Config) (*Telemetry, error) {
	log := newRateLimitedLog(cfg.Log)
	res, err := newResource(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	sampler, err := samplerFromEnv()
	if err != nil {
		return nil, err
	}
	spans, err := newSpans(ctx, res, sampler, log)
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
		MetricsHandler: handler,
		spans:          spans,
		metrics:        meters,
	}, nil
}

// Shutdown sends the queued spans, for at most 3 s, and stops. Call it last, because metrics end with it. Further calls
// return the first result.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	t.stopOnce.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
		defer cancel()
		t.stopErr = errors.Join(t.spans.shutdown(ctx), t.metrics.Shutdown(ctx))
	})
	return t.stopErr
}
