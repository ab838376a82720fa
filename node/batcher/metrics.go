package batcher

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/node/punch"
)

type instruments struct {
	wait     metric.Float64Histogram
	write    metric.Float64Histogram
	size     metric.Int64Histogram
	rejected metric.Int64Counter

	attrs        metric.MeasurementOption
	set          []attribute.KeyValue
	registration metric.Registration
}

func newInstruments(provider metric.MeterProvider, cfg Config, b *Batcher) (*instruments, error) {
	meter := provider.Meter("punchclock/batcher")
	m := &instruments{set: []attribute.KeyValue{attribute.String("home_region", cfg.Home), attribute.String("kind", cfg.Kind)}}
	m.attrs = metric.WithAttributeSet(attribute.NewSet(m.set...))
	errs := make([]error, 5)
	m.wait, errs[0] = meter.Float64Histogram("punchclock.queue.wait.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that a punch waited before its batch was written."))
	m.write, errs[1] = meter.Float64Histogram("punchclock.batch.write.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that the write of one batch took."))
	m.size, errs[2] = meter.Int64Histogram("punchclock.batch.size", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches in one batch."))
	m.rejected, errs[3] = meter.Int64Counter("punchclock.queue.rejected", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches that the queue refused, by code."))
	if errs[3] == nil {
		for _, code := range []punch.Code{punch.Overloaded, punch.Unavailable} { // rate never sees the first value of a series
			m.rejected.Add(context.Background(), 0, m.rejection(code))
		}
	}
	errs[4] = m.observe(meter, b)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("batcher metrics: %w", err)
	}
	return m, nil
}

func (m *instruments) observe(meter metric.Meter, b *Batcher) error {
	length, err1 := meter.Int64ObservableGauge("punchclock.queue.length", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches that wait."))
	size, err2 := meter.Int64ObservableGauge("punchclock.queue.size", metric.WithUnit("By"),
		metric.WithDescription("Memory that waiting punches hold."))
	open, err3 := meter.Int64ObservableGauge("punchclock.batch.circuit_open", metric.WithUnit("{circuit}"),
		metric.WithDescription("1 while writes of the home fail and its punches are refused."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	var err error
	m.registration, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		items, bytes := b.waiting()
		o.ObserveInt64(length, int64(items), m.attrs)
		o.ObserveInt64(size, int64(bytes), m.attrs)
		isOpen := int64(0)
		if b.Open() {
			isOpen = 1
		}
		o.ObserveInt64(open, isOpen, m.attrs)
		return nil
	}, length, size, open)
	return err
}

func (m *instruments) reject(ctx context.Context, err error) {
	m.rejected.Add(ctx, 1, m.rejection(punch.CodeOf(err)))
}

func (m *instruments) rejection(code punch.Code) metric.MeasurementOption {
	return metric.WithAttributes(append(slices.Clip(m.set), attribute.String("code", string(code)))...)
}

func (m *instruments) close() {
	_ = m.registration.Unregister() // it fails only for a registration of another meter
}
