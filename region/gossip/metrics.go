package gossip

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/region"
)

// The kinds of refused data.
const (
	refusedMeta     = "metadata"
	refusedMessage  = "message"
	refusedContent  = "unknown_content" // of a newer release
	refusedPushPull = "push_pull"
)

// The kinds of messages that a full queue drops.
const (
	droppedLoad   = "load"
	droppedSwitch = "switch"
	droppedKeys   = "keys"
)

// The outcomes of an attempt to join.
const (
	joinOK     = "ok"
	joinFailed = "failed"
)

// The outcomes of a reading of the keys. A reading without a change is not counted.
const (
	keysChanged = "changed"
	keysFailed  = "failed" // the present keys stay in use
)

type metrics struct {
	meter     metric.Meter
	reloads   metric.Int64Counter
	mismatch  metric.Int64ObservableGauge
	dropped   metric.Int64Counter
	joins     metric.Int64Counter
	refused   metric.Int64Counter
	members   metric.Int64ObservableGauge
	awareness metric.Int64ObservableGauge
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{meter: meter}
	var errs [7]error
	m.dropped, errs[0] = meter.Int64Counter("punchclock.gossip.dropped", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that a full queue lost, by kind."))
	m.joins, errs[1] = meter.Int64Counter("punchclock.gossip.joins", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts to join another node, by outcome."))
	m.refused, errs[2] = meter.Int64Counter("punchclock.gossip.refused", metric.WithUnit("{message}"),
		metric.WithDescription("Received data that is not valid or not known, by kind."))
	m.members, errs[3] = meter.Int64ObservableGauge("punchclock.gossip.members", metric.WithUnit("{node}"),
		metric.WithDescription("Nodes that this node sees, itself included, by region and state."))
	m.awareness, errs[4] = meter.Int64ObservableGauge("punchclock.gossip.awareness", metric.WithUnit("{score}"),
		metric.WithDescription("memberlist's doubt in this node itself: 0 is healthy, a higher score slows probes."))
	m.reloads, errs[5] = meter.Int64Counter("punchclock.gossip.keys.reloads", metric.WithUnit("{reading}"),
		metric.WithDescription("Readings of the keyring file that changed the keys, or failed, by outcome."))
	m.mismatch, errs[6] = meter.Int64ObservableGauge("punchclock.gossip.keys.mismatch", metric.WithUnit("{node}"),
		metric.WithDescription("Nodes with other gossip keys than this node, or with unknown keys."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	// Every series starts at 0, or an alert on the increase would miss the first failure.
	start := func(counter metric.Int64Counter, label string, values ...string) {
		for _, v := range values {
			counter.Add(context.Background(), 0, metric.WithAttributes(attribute.String(label, v)))
		}
	}
	start(m.joins, "outcome", joinOK, joinFailed)
	start(m.reloads, "outcome", keysChanged, keysFailed)
	start(m.refused, "kind", refusedMeta, refusedMessage, refusedContent, refusedPushPull)
	start(m.dropped, "kind", droppedLoad, droppedSwitch, droppedKeys)
	return m, nil
}

func (m *metrics) keysReloaded(outcome string) {
	m.reloads.Add(context.Background(), 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

// drop returns the function that counts dropped messages of one kind.
func (m *metrics) drop(kind string) func(n int) {
	return func(n int) {
		m.dropped.Add(context.Background(), int64(n), metric.WithAttributes(attribute.String("kind", kind)))
	}
}

func (m *metrics) join(err error) {
	outcome := joinOK
	if err != nil {
		outcome = joinFailed
	}
	m.joins.Add(context.Background(), 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

func (m *metrics) refuse(kind string) {
	m.refused.Add(context.Background(), 1, metric.WithAttributes(attribute.String("kind", kind)))
}

// observe registers the gauges. Close of the Gossip ends the registration.
func (m *metrics) observe(cluster *region.Cluster, awareness func() int, keyrings func() []Keyring) (metric.Registration, error) {
	type group struct {
		region region.Name
		state  region.State
	}
	return m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		count := make(map[group]int64)
		for _, member := range cluster.Snapshot().Members() {
			count[group{member.Region, member.State}]++
		}
		for g, n := range count {
			o.ObserveInt64(m.members, n, metric.WithAttributes(
				attribute.String("region", string(g.region)), attribute.String("state", g.state.String())))
		}
		o.ObserveInt64(m.awareness, int64(awareness()))
		o.ObserveInt64(m.mismatch, mismatches(keyrings()))
		return nil
	}, m.members, m.awareness, m.mismatch)
}

// mismatches counts the keyrings that differ from the first one, which is this node's.
func mismatches(rings []Keyring) (n int64) {
	for _, r := range rings {
		if !r.Known || !sameRing(r.Keys, rings[0].Keys) {
			n++
		}
	}
	return n
}

// sameRing compares two keyrings. The order of keys that only receive does not matter.
func sameRing(a, b []Fingerprint) bool {
	if len(a) != len(b) || len(a) == 0 {
		return len(a) == len(b)
	}
	return a[0] == b[0] && !slices.ContainsFunc(a, func(f Fingerprint) bool { return !slices.Contains(b, f) })
}
