package dispatch

import (
	"context"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/region"
)

type instruments struct {
	routed metric.Int64Counter
	hops   metric.Int64Counter
	moves  metric.Int64Counter
	meter  metric.Meter

	// ways keeps the attributes of routed by way: they are needed for every
	// punch, and making a set costs more than all else that counting does.
	ways *sync.Map // way to metric.MeasurementOption
}

// observe shows the circuits that are not closed.
func (m *instruments) observe(c *circuits) error {
	_, err := m.meter.Int64ObservableGauge("punchclock.dispatch.open_circuits", metric.WithUnit("{peer}"),
		metric.WithDescription("Peers that are not called because calls to them failed."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(len(c.open())))
			return nil
		}))
	if err != nil {
		return fmt.Errorf("dispatch metrics: %w", err)
	}
	return nil
}

type way struct {
	home  region.Name
	local bool
}

func newInstruments(provider metric.MeterProvider) (m instruments, err error) {
	meter := provider.Meter("punchclock/dispatch")
	m.ways, m.meter = new(sync.Map), meter
	if m.routed, err = meter.Int64Counter("punchclock.dispatch.routed", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches dispatched, by home region and whether to this node's database gateway or to another node.")); err != nil {
		return m, fmt.Errorf("dispatch metrics: %w", err)
	}
	if m.hops, err = meter.Int64Counter("punchclock.peer.forwarded", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches sent to other nodes, by target region and result; here: written by this node after all.")); err != nil {
		return m, fmt.Errorf("dispatch metrics: %w", err)
	}
	if m.moves, err = meter.Int64Counter("punchclock.dispatch.stale_home", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches that were routed under an old home, by that home's region.")); err != nil {
		return m, fmt.Errorf("dispatch metrics: %w", err)
	}
	return m, nil
}

func (m *instruments) dispatched(ctx context.Context, home region.Name, local bool) {
	attrs, known := m.ways.Load(way{home, local})
	if !known {
		attrs, _ = m.ways.LoadOrStore(way{home, local}, metric.WithAttributeSet(attribute.NewSet(
			attribute.String("home_region", string(home)), attribute.Bool("local", local))))
	}
	m.routed.Add(ctx, 1, attrs.(metric.MeasurementOption))
}

func (m *instruments) hopped(ctx context.Context, target region.Name, result string, n int) {
	if n > 0 {
		m.hops.Add(ctx, int64(n), metric.WithAttributes(attribute.String("target_region", string(target)), attribute.String("result", result)))
	}
}

func (m *instruments) moved(ctx context.Context, home region.Name) {
	m.moves.Add(ctx, 1, metric.WithAttributes(attribute.String("home_region", string(home))))
}
