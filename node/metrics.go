package node

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observe registers what only the node as a whole knows.
func (n *Node) observe() error {
	meter := n.telemetry.MeterProvider.Meter("punchclock/node")
	lookups, err1 := meter.Int64ObservableCounter("punchclock.directory.lookups", metric.WithUnit("{lookup}"),
		metric.WithDescription("Company look-ups, by whether memory had the answer."))
	known, err2 := meter.Int64ObservableGauge("punchclock.directory.companies", metric.WithUnit("{company}"),
		metric.WithDescription("Companies in memory."))
	ready, err3 := meter.Int64ObservableGauge("punchclock.node.ready", metric.WithUnit("{node}"),
		metric.WithDescription("1 while the node may be sent punches."))
	clock, err4 := meter.Float64ObservableGauge("punchclock.node.clock_offset", metric.WithUnit("s"),
		metric.WithDescription("How far this node's clock is ahead of the database's."))
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return fmt.Errorf("node metrics: %w", err)
		}
	}
	hit, miss := metric.WithAttributes(attribute.Bool("hit", true)), metric.WithAttributes(attribute.Bool("hit", false))
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		hits, misses := n.directory.Lookups()
		o.ObserveInt64(lookups, int64(hits), hit)
		o.ObserveInt64(lookups, int64(misses), miss)
		o.ObserveInt64(known, int64(n.directory.Len()))
		o.ObserveFloat64(clock, time.Duration(n.clockOffset.Load()).Seconds())
		if len(n.ready.notReady()) == 0 {
			o.ObserveInt64(ready, 1)
		} else {
			o.ObserveInt64(ready, 0)
		}
		return nil
	}, lookups, known, ready, clock)
	return err
}
