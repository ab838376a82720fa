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
	"github.com/punchclock/punchclock/tracing"
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
	requests tracing.Counters
	punches  map[string]*tracing.Counter // by outcome
}

func newInstruments(meter metric.Meter, inFlight, held func() int64) (*instruments, error) {
	m := &instruments{punches: make(map[string]*tracing.Counter)}
	var punches tracing.Counters
	var errs [5]error
	m.duration, errs[0] = meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from a request's header to its answer."))
	_, errs[1] = meter.Int64ObservableCounter("punchclock.http.requests", metric.WithUnit("{request}"),
		metric.WithDescription("Requests: ok, gone when the caller left, or refused by code."), metric.WithInt64Callback(m.requests.Observe))
	_, errs[2] = meter.Int64ObservableCounter("punchclock.http.punches", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches, alone or in batches, by outcome."), metric.WithInt64Callback(punches.Observe))
	_, errs[3] = meter.Int64ObservableGauge("punchclock.http.in_flight", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches accepted and not yet answered."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(inFlight())
			return nil
		}))
	_, errs[4] = meter.Int64ObservableGauge("punchclock.http.memory", metric.WithUnit("By"),
		metric.WithDescription("Memory reserved for punches and batches without an answer. At its bound they are refused."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(held())
			return nil
		}))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for _, outcome := range append(outcomes(), outcomeRecorded, outcomeReplayed) {
		m.punches[outcome] = punches.With(attribute.String("outcome", outcome)) // at 0: rate never sees the first value of a series
	}
	return m, nil
}

func (m *instruments) punch(outcome string) {
	counter, known := m.punches[outcome]
	if !known { // toProblem answers such a code as unavailable
		counter = m.punches[string(punch.Unavailable)]
	}
	counter.Add(1)
}

// routeMetrics records the requests of one route.
type routeMetrics struct {
	instruments *instruments
	route       string // empty for paths that are no route

	mu       sync.RWMutex // guards the fields below
	counters map[requestCount]*tracing.Counter
	attrs    map[requestKind]metric.MeasurementOption // of duration; to make them takes longer than to record a request
}

// requestCount is a series of requests.
type requestCount struct{ method, outcome string }

// requestKind is everything by which requests of a route are told apart. Every value is bounded.
type requestKind struct {
	requestCount
	status int // 0 when the caller left before the answer
	tls    bool
}

func (m *instruments) forRoute(rt route) *routeMetrics {
	rm := &routeMetrics{
		instruments: m, route: rt.path, counters: make(map[requestCount]*tracing.Counter),
		attrs: make(map[requestKind]metric.MeasurementOption),
	}
	if rt.path == "/" {
		rm.route = ""
	}
	if rt.method == http.MethodPost { // punches: no alert watches the failures of other routes
		for _, outcome := range outcomes() {
			count := requestCount{method: rt.method, outcome: outcome}
			rm.counters[count] = m.requests.With(rm.countAttrs(count)...)
		}
	}
	return rm
}

// record counts a request. Status is 0 when the caller left before the answer.
func (rm *routeMetrics) record(ctx context.Context, r *http.Request, outcome string, status int, took time.Duration) {
	kind := requestKind{requestCount{knownMethod(r.Method), outcome}, status, r.TLS != nil}
	rm.mu.RLock()
	counter, attrs := rm.counters[kind.requestCount], rm.attrs[kind]
	rm.mu.RUnlock()
	if counter == nil || attrs == nil {
		counter, attrs = rm.add(kind)
	}
	counter.Add(1)
	rm.instruments.duration.Record(ctx, took.Seconds(), attrs)
}

// add makes what the first request of a kind needs. Other requests of the kind may be first at the same time.
func (rm *routeMetrics) add(kind requestKind) (*tracing.Counter, metric.MeasurementOption) {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if rm.counters[kind.requestCount] == nil {
		rm.counters[kind.requestCount] = rm.instruments.requests.With(rm.countAttrs(kind.requestCount)...)
	}
	if rm.attrs[kind] == nil {
		rm.attrs[kind] = metric.WithAttributeSet(attribute.NewSet(rm.durationAttrs(kind)...))
	}
	return rm.counters[kind.requestCount], rm.attrs[kind]
}

func (rm *routeMetrics) countAttrs(of requestCount) []attribute.KeyValue {
	list := []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(of.method), attribute.String("outcome", of.outcome)}
	if rm.route != "" {
		list = append(list, semconv.HTTPRoute(rm.route))
	}
	return list
}

func (rm *routeMetrics) durationAttrs(kind requestKind) []attribute.KeyValue {
	scheme := "http"
	if kind.tls {
		scheme = "https"
	}
	list := append(rm.countAttrs(kind.requestCount), semconv.URLScheme(scheme))
	if kind.status > 0 {
		list = append(list, semconv.HTTPResponseStatusCode(kind.status))
	}
	if kind.status >= http.StatusInternalServerError {
		list = append(list, semconv.ErrorTypeKey.String(kind.outcome))
	}
	return list
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
