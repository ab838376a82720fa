package certs

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	rejected, refused metric.Int64Counter
	registration      metric.Registration
}

func (s *Set) observe(provider metric.MeterProvider) error {
	meter := provider.Meter("punchclock/certs")
	expiry, err1 := meter.Int64ObservableGauge("punchclock.certificate.expiry", metric.WithUnit("s"),
		metric.WithDescription("When the first certificate of a file ends, in Unix time."))
	rejected, err2 := meter.Int64Counter("punchclock.certificate.reload.failures", metric.WithUnit("{look}"),
		metric.WithDescription("Looks at changed certificate files that were not in order, so that the ones before stayed in use."))
	refused, err3 := meter.Int64Counter("punchclock.tls.handshake.failures", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections refused because of the other end's certificate."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("certificate metrics: %w", err)
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, source := range s.all() {
			h := source.held.Load()
			if h.own != nil {
				o.ObserveInt64(expiry, h.ownEnds.Unix(), useAttribute(source.files.Certificate.Use))
			}
			if h.roots != nil {
				o.ObserveInt64(expiry, h.rootsEnd.Unix(), useAttribute(source.files.Authority.Use))
			}
		}
		return nil
	}, expiry)
	if err != nil {
		return fmt.Errorf("certificate metrics: %w", err)
	}
	s.metrics = metrics{rejected: rejected, refused: refused, registration: registration}
	return nil
}

func useAttribute(use string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("use", use))
}

func (m *metrics) unregister() {
	_ = m.registration.Unregister() // fails only a second time
}

func (m *metrics) reject(ctx context.Context, use string) { m.rejected.Add(ctx, 1, useAttribute(use)) }

func (m *metrics) refuse(ctx context.Context, other, reason string) {
	m.refused.Add(ctx, 1, metric.WithAttributes(attribute.String("other_end", other), attribute.String("reason", reason)))
}
