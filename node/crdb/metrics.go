package crdb

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	retries   metric.Int64Counter
	rows      metric.Int64Counter
	inTransit metric.Int64Counter
	prepares  metric.Int64Counter
}

// retriedCauses are the causes after which an attempt is repeated.
var retriedCauses = []cause{
	causeConflict, causeAmbiguous, causeConnection, causeTimeout, causeDraining, causeUnavailable,
	causeLicence, causeStale, causeUnknown, causeUnresolved,
}

func newMetrics(provider metric.MeterProvider) (m metrics, err error) {
	meter := provider.Meter("punchclock/crdb")
	if m.retries, err = meter.Int64Counter("punchclock.database.retries", metric.WithUnit("{attempt}"),
		metric.WithDescription("Database attempts that had to be repeated, by cause.")); err != nil {
		return m, fmt.Errorf("database metrics: %w", err)
	}
	if m.rows, err = meter.Int64Counter("punchclock.database.punches", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches settled by the database, by home region and result.")); err != nil {
		return m, fmt.Errorf("database metrics: %w", err)
	}
	if m.inTransit, err = meter.Int64Counter("punchclock.database.punches.in_transit", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches of companies whose rows are still being carried from another region, by home region.")); err != nil {
		return m, fmt.Errorf("database metrics: %w", err)
	}
	if m.prepares, err = meter.Int64Counter("punchclock.database.prepares", metric.WithUnit("{statement}"),
		metric.WithDescription("Statements that were prepared on a connection, by pool. A first punch should find its statements prepared.")); err != nil {
		return m, fmt.Errorf("database metrics: %w", err)
	}
	for _, reason := range retriedCauses { // a counter must exist before its first failure, or an alert misses that failure
		m.retries.Add(context.Background(), 0, metric.WithAttributes(attribute.String("cause", string(reason))))
	}
	return m, nil
}

func (m metrics) countInTransit(ctx context.Context, home string, n int) {
	m.inTransit.Add(ctx, int64(n), metric.WithAttributes(attribute.String("home_region", home)))
}

func (m metrics) retried(ctx context.Context, reason cause) {
	m.retries.Add(ctx, 1, metric.WithAttributes(attribute.String("cause", string(reason))))
}

func (m metrics) results(ctx context.Context, home, result string, n int) {
	if n > 0 {
		m.rows.Add(ctx, int64(n), metric.WithAttributes(attribute.String("home_region", home), attribute.String("result", result)))
	}
}

func poolName(name string) attribute.KeyValue { return attribute.String("pool", name) }

func hostAddr(addr string) attribute.KeyValue { return attribute.String("host", addr) }
