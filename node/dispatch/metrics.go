package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/tracing"
)

type instruments struct {
	meter     metric.Meter
	routed    *tracing.Counters
	forwarded metric.Int64Counter
	staleHome metric.Int64Counter

	mu           *sync.RWMutex // guards destinations
	destinations map[destination]*tracing.Counter
}

// destination is where a punch is routed.
type destination struct {
	home  region.Name
	local bool
}

func newInstruments(provider metric.MeterProvider) (instruments, error) {
	m := instruments{
		meter: provider.Meter("punchclock/dispatch"), routed: new(tracing.Counters),
		mu: new(sync.RWMutex), destinations: make(map[destination]*tracing.Counter),
	}
	var errs [3]error
	_, errs[0] = m.meter.Int64ObservableCounter("punchclock.dispatch.routed", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches by home, and whether this node writes them."), metric.WithInt64Callback(m.routed.Observe))
	m.forwarded, errs[1] = m.meter.Int64Counter("punchclock.peer.forwarded", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches sent to other nodes, by target region and result."))
	m.staleHome, errs[2] = m.meter.Int64Counter("punchclock.dispatch.stale_home", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches that were routed under an old home."))
	if err := errors.Join(errs[:]...); err != nil {
		return m, fmt.Errorf("dispatch metrics: %w", err)
	}
	return m, nil
}

// observe shows the circuit breakers that are not closed.
func (m *instruments) observe(bs *breakers) error {
	_, err := m.meter.Int64ObservableGauge("punchclock.dispatch.open_circuits", metric.WithUnit("{peer}"),
		metric.WithDescription("Peers that are not called because calls to them failed."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(len(bs.open())))
			return nil
		}))
	if err != nil {
		return fmt.Errorf("dispatch metrics: %w", err)
	}
	return nil
}

func (m *instruments) countRouted(to destination) {
	m.mu.RLock()
	counter := m.destinations[to]
	m.mu.RUnlock()
	if counter == nil {
		counter = m.addDestination(to)
	}
	counter.Add(1)
}

func (m *instruments) addDestination(to destination) *tracing.Counter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.destinations[to] == nil { // another punch may be the first one at the same time
		m.destinations[to] = m.routed.With(attribute.String("home_region", string(to.home)), attribute.Bool("local", to.local))
	}
	return m.destinations[to]
}

func (m *instruments) countForwarded(ctx context.Context, target region.Name, result string, n int) {
	if n > 0 {
		m.forwarded.Add(ctx, int64(n), metric.WithAttributes(
			attribute.String("target_region", string(target)), attribute.String("result", result)))
	}
}

func (m *instruments) countStaleHome(ctx context.Context, home region.Name) {
	m.staleHome.Add(ctx, 1, metric.WithAttributes(attribute.String("home_region", string(home))))
}
