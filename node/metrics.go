package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/region"
)

// observe registers the metrics that no single part can show.
func (n *Node) observe() error {
	meter := n.telemetry.MeterProvider.Meter("punchclock/node")
	lookups, err1 := meter.Int64ObservableCounter("punchclock.directory.lookups", metric.WithUnit("{lookup}"),
		metric.WithDescription("Lookups of companies' homes, by whether the cache had the answer (hit)."))
	known, err2 := meter.Int64ObservableGauge("punchclock.directory.companies", metric.WithUnit("{company}"),
		metric.WithDescription("Companies whose home is in the cache."))
	ready, err3 := meter.Int64ObservableGauge("punchclock.node.ready", metric.WithUnit("{node}"),
		metric.WithDescription("1 while the node is ready, else 0."))
	clock, err4 := meter.Float64ObservableGauge("punchclock.node.clock_offset", metric.WithUnit("s"),
		metric.WithDescription("How far this node's clock is ahead of the database's."))
	read, err5 := meter.Float64ObservableGauge("punchclock.database.last_success.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the switches were last read from the database. A node reads them every second, also at night."))
	failures, err6 := meter.Int64ObservableCounter("punchclock.directory.failures", metric.WithUnit("{read}"),
		metric.WithDescription("Failed reads of homes. Known companies go on with the home in memory."))
	for _, err := range []error{err1, err2, err3, err4, err5, err6} {
		if err != nil {
			return fmt.Errorf("node metrics: %w", err)
		}
	}
	hit, miss := metric.WithAttributes(attribute.Bool("hit", true)), metric.WithAttributes(attribute.Bool("hit", false))
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		directory := n.directory.Stats()
		o.ObserveInt64(lookups, int64(directory.Hits), hit)
		o.ObserveInt64(lookups, int64(directory.Misses), miss)
		o.ObserveInt64(failures, int64(directory.Failures))
		o.ObserveInt64(known, int64(n.directory.Len()))
		o.ObserveFloat64(clock, n.watcher.ClockOffset().Seconds())
		if at := n.controls.LastRead(); !at.IsZero() {
			o.ObserveFloat64(read, time.Since(at).Seconds())
		}
		if n.monitor.Ready() {
			o.ObserveInt64(ready, 1)
		} else {
			o.ObserveInt64(ready, 0)
		}
		return nil
	}, lookups, known, failures, ready, clock, read)
	return errors.Join(err, n.observeRegions(meter), n.observeAdmission(meter))
}

// observeRegions shows every region that the database has, also a region without nodes: a series that does not exist
// raises no alarm.
func (n *Node) observeRegions(meter metric.Meter) error {
	nodes, err1 := meter.Int64ObservableGauge("punchclock.region.nodes", metric.WithUnit("{node}"),
		metric.WithDescription("Nodes of each region of the database, by state, as this node sees them."))
	evacuated, err2 := meter.Int64ObservableGauge("punchclock.region.evacuated", metric.WithUnit("{region}"),
		metric.WithDescription("1 while the region is evacuated, else 0."))
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("node metrics: %w", err)
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		view := n.cluster.Snapshot()
		for _, name := range n.regions.all() {
			in := attribute.String("region", string(name))
			count := map[region.State]int64{region.Warming: 0, region.Ready: 0, region.Draining: 0}
			for _, m := range view.In(name) {
				count[m.State]++
			}
			for state, number := range count {
				o.ObserveInt64(nodes, number, metric.WithAttributes(in, attribute.String("state", state.String())))
			}
			var out int64
			if n.evacuated(name) {
				out = 1
			}
			o.ObserveInt64(evacuated, out, metric.WithAttributes(in))
		}
		return nil
	}, nodes, evacuated)
	return err
}

// observePeers shows how often a connection to a peer was missing.
func (n *Node) observePeers() error {
	meter := n.telemetry.MeterProvider.Meter("punchclock/node")
	_, err := meter.Int64ObservableCounter("punchclock.peer.connections.opened", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections that this node opened to its peers. Punches should find them open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(n.peers.Opened()))
			return nil
		}))
	if err != nil {
		return fmt.Errorf("node metrics: %w", err)
	}
	return nil
}

// observeAdmission shows what the gate lets in and what it refuses.
func (n *Node) observeAdmission(meter metric.Meter) error {
	requests, err1 := meter.Int64ObservableCounter("punchclock.admission.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests and forwarded punches at the gate, by class and by outcome: admitted or refused."))
	limit, err2 := meter.Float64ObservableGauge("punchclock.admission.limit", metric.WithUnit("{request}/s"),
		metric.WithDescription("Rate that the gate admits under overload; missing without overload."))
	wait, err3 := meter.Float64ObservableGauge("punchclock.admission.wait", metric.WithUnit("s"),
		metric.WithDescription("How long requests wait for a processor."))
	largest, err4 := meter.Float64ObservableGauge("punchclock.admission.largest_share", metric.WithUnit("1"),
		metric.WithDescription("Share of the company that sends most, of all requests of the last second."))
	open, err5 := meter.Int64ObservableGauge("punchclock.http.connections", metric.WithUnit("{connection}"),
		metric.WithDescription("Open connections to the public listener."))
	shed, err6 := meter.Int64ObservableCounter("punchclock.http.connections_shed", metric.WithUnit("{connection}"),
		metric.WithDescription("Connections that were refused under overload, or ended to make room for new ones."))
	level, err7 := meter.Int64ObservableGauge("punchclock.admission.level", metric.WithUnit("{level}"),
		metric.WithDescription("Level of degradation that the operator or the node itself (source) has chosen; the higher one holds."))
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return fmt.Errorf("node metrics: %w", err)
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(level, int64(n.switches.Level(region.Degradation, n.self.Region, n.clock())),
			metric.WithAttributes(attribute.String("source", "operator")))
		o.ObserveInt64(level, int64(n.levels.Own()), metric.WithAttributes(attribute.String("source", "node")))
		state := n.gate.State()
		for class, count := range state.Counts {
			of := attribute.String("class", admission.Class(class).String())
			o.ObserveInt64(requests, int64(count.Admitted), metric.WithAttributes(of, attribute.String("outcome", "admitted")))
			o.ObserveInt64(requests, int64(count.Refused), metric.WithAttributes(of, attribute.String("outcome", "refused")))
		}
		if state.Limit > 0 {
			o.ObserveFloat64(limit, state.Limit)
		}
		o.ObserveFloat64(wait, state.Wait)
		o.ObserveFloat64(largest, state.LargestShare)
		connections, ended := n.connections.count()
		o.ObserveInt64(open, int64(connections))
		o.ObserveInt64(shed, int64(ended))
		return nil
	}, requests, limit, wait, largest, open, shed, level)
	return err
}
