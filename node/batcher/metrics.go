package batcher

import (
	"context"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/node/punch"
)

type instruments struct {
	wait    metric.Float64Histogram
	flush   metric.Float64Histogram
	batch   metric.Int64Histogram
	refused metric.Int64Counter

	attrs        metric.MeasurementOption
	set          []attribute.KeyValue
	registration metric.Registration
}

func newInstruments(provider metric.MeterProvider, cfg Config, l *Lane) (*instruments, error) {
	meter := provider.Meter("punchclock/lane")
	m := &instruments{set: []attribute.KeyValue{attribute.String("home_region", cfg.Home), attribute.String("kind", cfg.Kind)}}
	m.attrs = metric.WithAttributeSet(attribute.NewSet(m.set...))
	var err error
	seconds := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15}
	if m.wait, err = meter.Float64Histogram("punchclock.queue.wait.duration", metric.WithUnit("s"),
		metric.WithDescription("Time a punch waited before its batch was written."), metric.WithExplicitBucketBoundaries(seconds...)); err != nil {
		return nil, fmt.Errorf("lane metrics: %w", err)
	}
	if m.flush, err = meter.Float64Histogram("punchclock.batch.write.duration", metric.WithUnit("s"),
		metric.WithDescription("Time one batch took to be written."), metric.WithExplicitBucketBoundaries(seconds...)); err != nil {
		return nil, fmt.Errorf("lane metrics: %w", err)
	}
	if m.batch, err = meter.Int64Histogram("punchclock.batch.size", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches in one batch."), metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)); err != nil {
		return nil, fmt.Errorf("lane metrics: %w", err)
	}
	if m.refused, err = meter.Int64Counter("punchclock.queue.rejected", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches that were not let into the lane, by code.")); err != nil {
		return nil, fmt.Errorf("lane metrics: %w", err)
	}
	for _, code := range []punch.Code{punch.Overloaded, punch.Unavailable} { // what a lane refuses with, shown before it does
		m.refused.Add(context.Background(), 0, m.refusal(code))
	}
	return m, m.observe(meter, l)
}

func (m *instruments) observe(meter metric.Meter, l *Lane) error {
	items, err := meter.Int64ObservableGauge("punchclock.queue.length", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches waiting in the lane."))
	if err != nil {
		return fmt.Errorf("lane metrics: %w", err)
	}
	memory, err := meter.Int64ObservableGauge("punchclock.queue.size", metric.WithUnit("By"),
		metric.WithDescription("Memory held by punches waiting in the lane."))
	if err != nil {
		return fmt.Errorf("lane metrics: %w", err)
	}
	circuit, err := meter.Int64ObservableGauge("punchclock.batch.circuit_open", metric.WithUnit("{lane}"),
		metric.WithDescription("1 while no write of the home has worked for a while and punches are refused at once."))
	if err != nil {
		return fmt.Errorf("lane metrics: %w", err)
	}
	m.registration, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		n, bytes := l.depth()
		o.ObserveInt64(items, int64(n), m.attrs)
		o.ObserveInt64(memory, int64(bytes), m.attrs)
		open := int64(0)
		if l.Open() {
			open = 1
		}
		o.ObserveInt64(circuit, open, m.attrs)
		return nil
	}, items, memory, circuit)
	return err
}

func (m *instruments) refuse(ctx context.Context, err error) {
	m.refused.Add(ctx, 1, m.refusal(punch.CodeOf(err)))
}

func (m *instruments) refusal(code punch.Code) metric.MeasurementOption {
	return metric.WithAttributes(append(slices.Clip(m.set), attribute.String("code", string(code)))...)
}

func (m *instruments) close() {
	_ = m.registration.Unregister() // it only fails for a registration of another meter
}
