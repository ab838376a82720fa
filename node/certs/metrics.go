package certs

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	reloadFailures, handshakeFailures metric.Int64Counter
	registration                      metric.Registration
}

func (s *Set) observe(provider metric.MeterProvider) error {
	meter := provider.Meter("punchclock/certs")
	expiry, err1 := meter.Int64ObservableGauge("punchclock.certificate.expiry", metric.WithUnit("s"),
		metric.WithDescription("Earliest end of the certificates in a file, in Unix time."))
	reloadFailures, err2 := meter.Int64Counter("punchclock.certificate.reload.failures", metric.WithUnit("{check}"),
		metric.WithDescription("Checks that found changed and invalid certificate files. The loaded certificates stayed in use."))
	handshakeFailures, err3 := meter.Int64Counter("punchclock.tls.handshake.failures", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections that this node refused because of the other side's certificate."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("certificate metrics: %w", err)
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, source := range s.all() {
			h := source.current.Load()
			if h.own != nil {
				o.ObserveInt64(expiry, h.ownEnds.Unix(), labelled(source.files.Certificate.Label))
			}
			if h.roots != nil {
				o.ObserveInt64(expiry, h.rootsEnd.Unix(), labelled(source.files.CA.Label))
			}
		}
		return nil
	}, expiry)
	if err != nil {
		return fmt.Errorf("certificate metrics: %w", err)
	}
	s.metrics = metrics{reloadFailures: reloadFailures, handshakeFailures: handshakeFailures, registration: registration}
	return nil
}

func labelled(certificate string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("certificate", certificate))
}

func (m *metrics) unregister() {
	_ = m.registration.Unregister() // fails only a second time
}

func (m *metrics) reloadFailed(ctx context.Context, certificate string) {
	m.reloadFailures.Add(ctx, 1, labelled(certificate))
}

func (m *metrics) handshakeFailed(ctx context.Context, side, reason string) {
	m.handshakeFailures.Add(ctx, 1, metric.WithAttributes(attribute.String("side", side), attribute.String("reason", reason)))
}
