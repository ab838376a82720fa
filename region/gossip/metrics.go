package gossip

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/region"
)

// Why something that arrived was refused.
const (
	refusedMeta    = "metadata"
	refusedMessage = "message"
	refusedKind    = "unknown_kind" // of a newer release
	refusedState   = "state"
)

// What became of an attempt to join.
const (
	joinOK     = "ok"
	joinFailed = "failed"
)

// What became of a company change.
const (
	companySent     = "sent"     // this node told of it
	companyReceived = "received" // another node did
	companyDropped  = "dropped"  // gave way in the full queue
)

// What became of a reading of the keys; one that finds the same is not counted.
const (
	keyringChanged = "changed"
	keyringFailed  = "failed" // the old keys hold
)

type metrics struct {
	meter     metric.Meter
	keyrings  metric.Int64Counter
	differing metric.Int64ObservableGauge
	companies metric.Int64Counter
	joins     metric.Int64Counter
	refused   metric.Int64Counter
	members   metric.Int64ObservableGauge
	health    metric.Int64ObservableGauge
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{meter: meter}
	var errs [7]error
	m.companies, errs[0] = meter.Int64Counter("punchclock.gossip.company.changes", metric.WithUnit("{change}"),
		metric.WithDescription("Company changes by what became of them."))
	m.joins, errs[1] = meter.Int64Counter("punchclock.gossip.joins", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts to join another node, by outcome."))
	m.refused, errs[2] = meter.Int64Counter("punchclock.gossip.refused", metric.WithUnit("{message}"),
		metric.WithDescription("What arrived and could not be used, by what it was."))
	m.members, errs[3] = meter.Int64ObservableGauge("punchclock.gossip.members", metric.WithUnit("{node}"),
		metric.WithDescription("Nodes on the board, this one included."))
	m.health, errs[4] = meter.Int64ObservableGauge("punchclock.gossip.awareness", metric.WithUnit("{score}"),
		metric.WithDescription("memberlist's doubt in this node itself: 0 is healthy, higher probes slower."))
	m.keyrings, errs[5] = meter.Int64Counter("punchclock.gossip.keys.reloads", metric.WithUnit("{reading}"),
		metric.WithDescription("Readings of the keyring that changed it, or failed and changed nothing."))
	m.differing, errs[6] = meter.Int64ObservableGauge("punchclock.gossip.keys.mismatch", metric.WithUnit("{node}"),
		metric.WithDescription("Nodes that say of their keys what this node does not say of its own, or nothing."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	// Shown before they happen: the first failure is the one to be seen.
	for _, outcome := range []string{joinOK, joinFailed} {
		m.joins.Add(context.Background(), 0, metric.WithAttributes(attribute.String("outcome", outcome)))
	}
	for _, outcome := range []string{keyringChanged, keyringFailed} {
		m.keyrings.Add(context.Background(), 0, metric.WithAttributes(attribute.String("outcome", outcome)))
	}
	for _, what := range []string{refusedMeta, refusedMessage, refusedKind, refusedState} {
		m.refused.Add(context.Background(), 0, metric.WithAttributes(attribute.String("what", what)))
	}
	return m, nil
}

func (m *metrics) keyring(outcome string) {
	m.keyrings.Add(context.Background(), 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

func (m *metrics) company(event string, n int) {
	if n > 0 {
		m.companies.Add(context.Background(), int64(n), metric.WithAttributes(attribute.String("event", event)))
	}
}

func (m *metrics) join(err error) {
	outcome := joinOK
	if err != nil {
		outcome = joinFailed
	}
	m.joins.Add(context.Background(), 1, metric.WithAttributes(attribute.String("outcome", outcome)))
}

func (m *metrics) refuse(what string) {
	m.refused.Add(context.Background(), 1, metric.WithAttributes(attribute.String("what", what)))
}

// observe registers the gauges; the registration ends with the Gossip.
func (m *metrics) observe(cluster *region.Cluster, health func() int, keyrings func() []Keyring) (metric.Registration, error) {
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
		o.ObserveInt64(m.health, int64(health()))
		o.ObserveInt64(m.differing, differing(keyrings()))
		return nil
	}, m.members, m.health, m.differing)
}

// differing counts who differs from the first, which is this node. The order of
// keys that only receive means nothing.
func differing(rings []Keyring) (n int64) {
	for _, r := range rings {
		if !r.Known || !sameRing(r.Keys, rings[0].Keys) {
			n++
		}
	}
	return n
}

func sameRing(a, b []Fingerprint) bool {
	if len(a) != len(b) || len(a) == 0 {
		return len(a) == len(b)
	}
	return a[0] == b[0] && !slices.ContainsFunc(a, func(f Fingerprint) bool { return !slices.Contains(b, f) })
}
