package httpapi

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/node/punch"
)

// The outcomes beside the codes of refusals.
const (
	outcomeOK       = "ok"
	outcomeRecorded = "recorded" // a new punch
	outcomeReplayed = "replayed" // a punch that was committed before
	outcomeGone     = "gone"     // the caller left before the answer
)

// outcomeOf keeps callers that leave apart from failures: a 503 that nobody
// reads says nothing about the service.
func outcomeOf(ctx context.Context, code punch.Code) string {
	if gone(ctx) {
		return outcomeGone
	}
	return string(code)
}

type instruments struct {
	requests metric.Int64Counter
	duration metric.Float64Histogram
	punches  metric.Int64Counter

	punchOutcomes outcomes
}

// outcomes are attribute sets made once: making them takes longer than
// counting.
type outcomes map[string]metric.MeasurementOption

func (o outcomes) of(outcome string) metric.MeasurementOption {
	if option, ok := o[outcome]; ok {
		return option
	}
	return o[string(punch.Unavailable)] // as explain tells codes that have no place here
}

func newOutcomes(attrs ...attribute.KeyValue) outcomes {
	names := []string{outcomeOK, outcomeRecorded, outcomeReplayed, outcomeGone}
	for code := range refusals {
		names = append(names, string(code))
	}
	o := make(outcomes, len(names))
	for _, name := range names {
		set := attribute.NewSet(append([]attribute.KeyValue{attribute.String("outcome", name)}, attrs...)...)
		o[name] = metric.WithAttributeSet(set)
	}
	return o
}

func newInstruments(meter metric.Meter, inFlight func() int64) (*instruments, error) {
	m := &instruments{punchOutcomes: newOutcomes()}
	var err error
	if m.requests, err = meter.Int64Counter("punchclock.http.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests by route and outcome: ok, gone when the caller left, or the code of the refusal.")); err != nil {
		return nil, err
	}
	if m.duration, err = meter.Float64Histogram("punchclock.http.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's header to its answer, by route and outcome.")); err != nil {
		return nil, err
	}
	if m.punches, err = meter.Int64Counter("punchclock.http.punches", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches, alone or in batches, by outcome: recorded, replayed, or the code of the refusal.")); err != nil {
		return nil, err
	}
	startAtZero(m.punches, m.punchOutcomes)
	_, err = meter.Int64ObservableGauge("punchclock.http.in_flight", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches accepted and not yet answered."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(inFlight())
			return nil
		}))
	return m, err
}

// startAtZero shows every outcome before it happens: the first failures of a
// series that begins with them would be invisible to rate and increase.
func startAtZero(counter metric.Int64Counter, o outcomes) {
	for _, outcome := range o {
		counter.Add(context.Background(), 0, outcome)
	}
}

func (m *instruments) request(ctx context.Context, o outcomes, outcome string, took time.Duration) {
	m.requests.Add(ctx, 1, o.of(outcome))
	m.duration.Record(ctx, took.Seconds(), o.of(outcome))
}

func (m *instruments) punch(ctx context.Context, outcome string) {
	m.punches.Add(ctx, 1, m.punchOutcomes.of(outcome))
}
