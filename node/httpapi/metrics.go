package httpapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/punchclock/punchclock/node/punch"
)

// The outcomes beside the codes of refusals.
const (
	outcomeOK       = "ok"
	outcomeRecorded = "recorded" // a new punch
	outcomeReplayed = "replayed" // a punch that was committed before
	outcomeGone     = "gone"     // the caller left before the answer
)

// outcomeOf keeps callers that leave apart from failures. A 503 that no caller reads says nothing about the service.
func outcomeOf(ctx context.Context, code punch.Code) string {
	if clientGone(ctx) {
		return outcomeGone
	}
	return string(code)
}

// outcomes lists every outcome of a request.
func outcomes() []string {
	list := []string{outcomeOK, outcomeGone}
	for code := range refusals {
		list = append(list, string(code))
	}
	return list
}

type instruments struct {
	// duration follows OpenTelemetry's conventions for HTTP servers, with the outcome in addition.
	duration metric.Float64Histogram
	// requests counts the same requests. A histogram cannot be shown before its first value, and rate never sees the
	// first value of a series: the first failures after a start would be missing from the alerts.
	requests metric.Int64Counter
	punches  metric.Int64Counter

	punchAttrs map[string]metric.MeasurementOption // by outcome
}

func newInstruments(meter metric.Meter, inFlight func() int64) (*instruments, error) {
	m := &instruments{punchAttrs: make(map[string]metric.MeasurementOption)}
	var errs [4]error
	m.duration, errs[0] = meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's header to its answer."))
	m.requests, errs[1] = meter.Int64Counter("punchclock.http.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests: ok, gone when the caller left, or refused by code."))
	m.punches, errs[2] = meter.Int64Counter("punchclock.http.punches", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches, alone or in batches, by outcome."))
	_, errs[3] = meter.Int64ObservableGauge("punchclock.http.in_flight", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches accepted and not yet answered."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(inFlight())
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for _, outcome := range append(outcomes(), outcomeRecorded, outcomeReplayed) {
		attrs := metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", outcome)))
		m.punchAttrs[outcome] = attrs
		m.punches.Add(context.Background(), 0, attrs) // rate never sees the first value of a series
	}
	return m, nil
}

func (m *instruments) punch(ctx context.Context, outcome string) {
	attrs, known := m.punchAttrs[outcome]
	if !known { // toProblem answers such a code as unavailable
		attrs = m.punchAttrs[string(punch.Unavailable)]
	}
	m.punches.Add(ctx, 1, attrs)
}

// routeMetrics records the requests of one route.
type routeMetrics struct {
	instruments *instruments
	route       string // empty for paths that are no route

	mu    sync.RWMutex // guards attrs
	attrs map[requestKind]requestAttrs
}

// requestKind is everything by which requests of a route are told apart. Every value is bounded.
type requestKind struct {
	method, outcome string
	status          int // 0 when the caller left before the answer
	tls             bool
}

// requestAttrs are attribute sets that are made once: to make them takes longer than to record a request.
type requestAttrs struct{ count, duration metric.MeasurementOption }

func (m *instruments) forRoute(rt route) *routeMetrics {
	rm := &routeMetrics{instruments: m, route: rt.path, attrs: make(map[requestKind]requestAttrs)}
	if rt.path == "/" {
		rm.route = ""
	}
	if rt.method == http.MethodPost { // punches: no alert watches the failures of other routes
		for _, outcome := range outcomes() {
			m.requests.Add(context.Background(), 0, rm.newAttrs(requestKind{method: rt.method, outcome: outcome}).count)
		}
	}
	return rm
}

// record counts a request. Status is 0 when the caller left before the answer.
func (rm *routeMetrics) record(ctx context.Context, r *http.Request, outcome string, status int, took time.Duration) {
	kind := requestKind{method: knownMethod(r.Method), outcome: outcome, status: status, tls: r.TLS != nil}
	rm.mu.RLock()
	attrs, known := rm.attrs[kind]
	rm.mu.RUnlock()
	if !known {
		attrs = rm.newAttrs(kind)
		rm.mu.Lock()
		rm.attrs[kind] = attrs
		rm.mu.Unlock()
	}
	rm.instruments.requests.Add(ctx, 1, attrs.count)
	rm.instruments.duration.Record(ctx, took.Seconds(), attrs.duration)
}

func (rm *routeMetrics) newAttrs(kind requestKind) requestAttrs {
	list := []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(kind.method), attribute.String("outcome", kind.outcome)}
	if rm.route != "" {
		list = append(list, semconv.HTTPRoute(rm.route))
	}
	count := metric.WithAttributeSet(attribute.NewSet(list...))
	scheme := "http"
	if kind.tls {
		scheme = "https"
	}
	list = append(list, semconv.URLScheme(scheme))
	if kind.status > 0 {
		list = append(list, semconv.HTTPResponseStatusCode(kind.status))
	}
	if kind.status >= http.StatusInternalServerError {
		list = append(list, semconv.ErrorTypeKey.String(kind.outcome))
	}
	return requestAttrs{count: count, duration: metric.WithAttributeSet(attribute.NewSet(list...))}
}

// knownMethod keeps callers from making up label values, as OpenTelemetry's conventions ask.
func knownMethod(method string) string {
	switch method {
	case http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPatch,
		http.MethodPost, http.MethodPut, http.MethodTrace:
		return method
	default:
		return semconv.HTTPRequestMethodOther.Value.AsString()
	}
}
