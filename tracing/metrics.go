package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// scrapesAtOnce limits the cost of a scraper with a wrong interval. It has room for two scrapers and two people.
const scrapesAtOnce = 4

// newMetrics returns the meter provider and the handler that serves its metrics.
func newMetrics(ctx context.Context, res *resource.Resource, cfg Config) (*sdkmetric.MeterProvider, http.Handler, error) {
	registry := prometheus.NewRegistry()
	// CPU, memory and open files as the kernel counts them. Without the region's label a dashboard for one region would
	// not show them.
	inRegion := prometheus.WrapRegistererWith(prometheus.Labels{"cloud_region": cfg.Region}, registry)
	if err := inRegion.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})); err != nil {
		return nil, nil, fmt.Errorf("process metrics: %w", err)
	}
	served, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithProducer(runtime.NewProducer()),
		// Rules and dashboards select by region, so that no scraper needs a setting for it.
		promexporter.WithResourceAsConstantLabels(attribute.NewAllowKeysFilter(semconv.CloudRegionKey)))
	if err != nil {
		return nil, nil, fmt.Errorf("metrics for Prometheus: %w", err)
	}
	opts := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(served), sdkmetric.WithView(buckets)}
	pushed, err := newMetricReader(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("OTEL_METRICS_EXPORTER and OTEL_EXPORTER_OTLP_*: %w", err)
	}
	if pushed != nil {
		opts = append(opts, sdkmetric.WithReader(pushed))
	}
	meters := sdkmetric.NewMeterProvider(opts...)
	if err := runtime.Start(runtime.WithMeterProvider(meters)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("metrics of the Go runtime: %w", err), meters.Shutdown(ctx))
	}
	return meters, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // one broken metric must not hide the others
		MaxRequestsInFlight: scrapesAtOnce,
		EnableOpenMetrics:   true, // has exemplars, which lead from a slow bucket to a trace
	}), nil
}

// newMetricReader returns nil if the settings push no metrics. The exporter "prometheus" would open a second listener
// for the metrics that MetricsHandler serves.
func newMetricReader(ctx context.Context) (sdkmetric.Reader, error) {
	switch os.Getenv("OTEL_METRICS_EXPORTER") {
	case "", "none", "prometheus":
		return nil, nil
	default:
		return autoexport.NewMetricReader(ctx)
	}
}

// The boundaries depend on the unit. OpenTelemetry's own boundaries are made for whole milliseconds.
var (
	// From a local commit to twice the deadline of a punch, which is 15 s. The boundary at 2 s is the SLO that
	// tracing/monitoring counts.
	secondBuckets = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30}
	// A batch has at most 512 items by default.
	countBuckets = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}
	// From one punch to the largest request body, which has 1 MiB by default.
	byteBuckets = []float64{256, 1024, 4096, 16384, 65536, 262144, 1048576}
)

func buckets(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	if i.Kind != sdkmetric.InstrumentKindHistogram {
		return sdkmetric.Stream{}, false
	}
	var bounds []float64
	switch {
	case i.Unit == "s":
		bounds = secondBuckets
	case i.Unit == "By":
		bounds = byteBuckets
	case strings.HasPrefix(i.Unit, "{"):
		bounds = countBuckets
	default:
		return sdkmetric.Stream{}, false
	}
	return sdkmetric.Stream{
		Name: i.Name, Description: i.Description, Unit: i.Unit,
		Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: bounds},
	}, true
}
