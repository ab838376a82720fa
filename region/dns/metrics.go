package dns

import (
	"context"
	"errors"

	miekg "github.com/miekg/dns"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// The reasons for no answer.
const (
	droppedNoQuery    = "no_query"   // too short, or an answer
	droppedUnsent     = "unsent"     // the answer could not be written
	droppedPanic      = "panic"      // a query caused a panic
	droppedConnection = "connection" // too many connections
)

type metrics struct {
	queries metric.Int64Counter
	answers metric.Int64Counter
	dropped metric.Int64Counter
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{}
	var errs [3]error
	m.queries, errs[0] = meter.Int64Counter("punchclock.dns.queries", metric.WithUnit("{query}"),
		metric.WithDescription("DNS queries answered, by response code and transport."))
	m.answers, errs[1] = meter.Int64Counter("punchclock.dns.answers", metric.WithUnit("{answer}"),
		metric.WithDescription("DNS answers with addresses, by the region of the addresses and the reason: good, ready or last."))
	m.dropped, errs[2] = meter.Int64Counter("punchclock.dns.dropped", metric.WithUnit("{message}"),
		metric.WithDescription("DNS messages and connections that got no answer, by reason."))
	return m, errors.Join(errs[:]...)
}

func (m *metrics) query(rcode int, udp bool) {
	transport := "tcp"
	if udp {
		transport = "udp"
	}
	m.queries.Add(context.Background(), 1, metric.WithAttributes(
		attribute.String("rcode", miekg.RcodeToString[rcode]), attribute.String("transport", transport)))
}

func (m *metrics) answer(c choice) {
	m.answers.Add(context.Background(), 1, metric.WithAttributes(
		attribute.String("region", string(c.region)), attribute.String("reason", c.reason)))
}

func (m *metrics) drop(reason string) {
	m.dropped.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
}
