package httpapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/semconv/v1.43.0/httpconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// span waits for the n-th span, which ends after the answer was sent.
func (h *harness) span(tb testing.TB, n int) sdktrace.ReadOnlySpan {
	tb.Helper()
	eventually(tb, "the span has ended", func() bool { return len(h.spans.Ended()) > n })
	return h.spans.Ended()[n]
}

func TestCallersTraceIsLinkedAndItsSamplingIsNotAdopted(t *testing.T) {
	h := newHarness(t)
	for n, flags := range []string{"00", "01"} {
		got := h.send(t, request{
			method: "POST", path: "/v1/punches", authorization: h.as(t, auth.Kiosk, "gate"), body: someone(n),
			header: http.Header{
				"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" + flags},
				"Baggage":     {"company=rival"},
			},
		})
		span := h.span(t, n)
		if span.Name() != "POST /v1/punches" || span.SpanKind() != trace.SpanKindServer {
			t.Errorf("span is %q %s", span.Name(), span.SpanKind())
		}
		if span.Parent().IsValid() || span.SpanContext().TraceID().String() != got.receipt(t).TraceID {
			t.Errorf("flags %s: parent is %v, trace %s, receipt says %s", flags, span.Parent(), span.SpanContext().TraceID(), got.body)
		}
		links := span.Links()
		if len(links) != 1 || links[0].SpanContext.TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" {
			t.Errorf("flags %s: links are %v, want the caller's span", flags, links)
		}
		attributes := map[string]string{}
		for _, a := range span.Attributes() {
			attributes[string(a.Key)] = a.Value.String()
		}
		for key, want := range map[string]string{
			"http.route": "/v1/punches", string(tracing.Company): "acme", string(tracing.HomeRegion): "eu-west",
			string(tracing.EntryRegion): "us-east", string(tracing.Replayed): "false",
		} {
			if attributes[key] != want {
				t.Errorf("attribute %s is %q, want %q", key, attributes[key], want)
			}
		}
	}
}

func TestSpanNamesAreOfRoutes(t *testing.T) {
	h := newHarness(t)
	for n, tt := range []struct{ path, name string }{
		{"/v1/employees/e-1/punches/" + idAt(0), "GET /v1/employees/{employee}/punches/{id}"},
		{"/secret/of/somebody", "/"},
	} {
		h.get(t, tt.path, auth.Manager, "boss")
		if got := h.span(t, n).Name(); got != tt.name {
			t.Errorf("span of %s is %q, want %q", tt.path, got, tt.name)
		}
	}
}

// counts returns the counts of a counter or histogram by attributes.
func (h *harness) counts(tb testing.TB, name string) map[string]int64 {
	tb.Helper()
	var all metricdata.ResourceMetrics
	if err := h.metrics.Collect(context.Background(), &all); err != nil {
		tb.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					got[p.Attributes.Encoded(encoder)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					got[p.Attributes.Encoded(encoder)] = int64(p.Count)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					got[p.Attributes.Encoded(encoder)] = p.Value
				}
			}
		}
	}
	return got
}

func TestMetricsByRouteAndOutcome(t *testing.T) {
	h := newHarness(t)
	for name, series := range map[string]string{
		"punchclock.http.requests": "http.request.method=POST,http.route=/v1/punches,outcome=unavailable",
		"punchclock.http.punches":  "outcome=unknown_company",
	} {
		if n, shown := h.counts(t, name)[series]; n != 0 || !shown {
			t.Errorf("%s{%s} is %d, shown: %t, before anything happened; rate would never see the first", name, series, n, shown)
		}
	}
	h.store.fail = func(_ context.Context, employee string) error {
		if employee == "e-2" {
			return errors.New("no such node")
		}
		return nil
	}
	h.punch(t, good)
	h.punch(t, good)
	h.punch(t, `{}`)
	h.punch(t, strings.Replace(good, "e-1", "e-2", 1))
	h.batch(t, batchOf(good, someone(2), someone(3), `{}`), h.as(t, auth.Kiosk, "gate"))
	h.send(t, request{method: "GET", path: "/made/up/by/a/caller"})
	h.send(t, request{method: "BREW", path: "/v1/punches"})

	requests := map[string]int64{
		"http.request.method=POST,http.route=/v1/punches,outcome=ok":                   2,
		"http.request.method=POST,http.route=/v1/punches,outcome=invalid":              1,
		"http.request.method=POST,http.route=/v1/punches,outcome=unavailable":          1,
		"http.request.method=POST,http.route=/v1/punches/batch,outcome=ok":             1,
		"http.request.method=GET,outcome=not_found":                                    1,
		"http.request.method=_OTHER,http.route=/v1/punches,outcome=method_not_allowed": 1,
	}
	// These attributes are OpenTelemetry's conventions for HTTP servers, with the outcome in addition.
	durations := map[string]int64{
		"http.request.method=POST,http.response.status_code=201,http.route=/v1/punches,outcome=ok,url.scheme=http":                                 1,
		"http.request.method=POST,http.response.status_code=200,http.route=/v1/punches,outcome=ok,url.scheme=http":                                 1,
		"http.request.method=POST,http.response.status_code=400,http.route=/v1/punches,outcome=invalid,url.scheme=http":                            1,
		"error.type=unavailable,http.request.method=POST,http.response.status_code=503,http.route=/v1/punches,outcome=unavailable,url.scheme=http": 1,
		"http.request.method=POST,http.response.status_code=200,http.route=/v1/punches/batch,outcome=ok,url.scheme=http":                           1,
		"http.request.method=GET,http.response.status_code=404,outcome=not_found,url.scheme=http":                                                  1,
		"http.request.method=_OTHER,http.response.status_code=405,http.route=/v1/punches,outcome=method_not_allowed,url.scheme=http":               1,
	}
	punches := map[string]int64{"outcome=recorded": 2, "outcome=replayed": 2, "outcome=unavailable": 2, "outcome=invalid": 2}
	for name, want := range map[string]map[string]int64{
		"punchclock.http.requests": requests, httpconv.ServerRequestDuration{}.Name(): durations, "punchclock.http.punches": punches,
	} {
		// A request is counted after its answer was sent.
		eventually(t, name, func() bool {
			got := h.counts(t, name)
			maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
			return maps.Equal(got, want) || t.Context().Err() != nil
		})
	}
}

func TestInFlightAndCallersThatLeave(t *testing.T) {
	h := newHarness(t)
	h.store.fail = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/v1/punches", strings.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {h.as(t, auth.Kiosk, "gate")}}
	left := make(chan error)
	go func() {
		resp, err := h.client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		left <- err
	}()
	eventually(t, "the punch is in flight", func() bool { return h.InFlight() == 1 && h.counts(t, "punchclock.http.in_flight")[""] == 1 })
	cancel()
	if err := <-left; err == nil {
		t.Error("a punch that nothing recorded was answered")
	}
	eventually(t, "it is no longer in flight", func() bool { return h.InFlight() == 0 })
	eventually(t, "the caller is counted as gone, without a status that no caller received", func() bool {
		const gone = "http.request.method=POST,http.route=/v1/punches,outcome=gone"
		return h.counts(t, "http.server.request.duration")[gone+",url.scheme=http"] == 1 &&
			h.counts(t, "punchclock.http.requests")[gone] == 1 && h.counts(t, "punchclock.http.punches")["outcome=gone"] == 1
	})
	if log := h.log.String(); log != "" {
		t.Errorf("a caller that left is logged: %s", log)
	}
}

func TestFailuresAreLoggedSeldomAndRefusalsNever(t *testing.T) {
	h := newHarness(t)
	h.store.fail = func(_ context.Context, employee string) error {
		if employee == "e-1" {
			return punch.Retryable(punch.Unavailable, 0, "away", errors.New("dial 10.0.0.7"))
		}
		return punch.Errorf(punch.Conflict, "used")
	}
	h.punch(t, strings.Replace(good, "e-1", "e-2", 1))
	if log := h.log.String(); log != "" {
		t.Errorf("a refusal is logged: %s", log)
	}
	items := make([]string, 100)
	for i := range items {
		items[i] = strings.Replace(someone(i), "e-"+fmt.Sprint(i), "e-1", 1)
	}
	h.batch(t, batchOf(items...), h.as(t, auth.Kiosk, "gate"))
	// The interval is a second. A slow machine may take several.
	if n := strings.Count(h.log.String(), "dial 10.0.0.7"); n < 1 || n > 10 {
		t.Errorf("100 failures are logged %d times", n)
	}
}

func TestPanicIsCountedAndTraced(t *testing.T) {
	h := newHarness(t)
	h.store.fail = func(context.Context, string) error { panic(http.ErrAbortHandler) } // which net/http does not log
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/punches", strings.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {h.as(t, auth.Kiosk, "gate")}}
	if resp, err := h.client.Do(req); err == nil {
		_ = resp.Body.Close() // nothing to lose: the test has failed
		t.Errorf("a panic was answered %d", resp.StatusCode)
	}
	if got := h.span(t, 0).Status().Code; got != codes.Error {
		t.Errorf("the span's status is %s, want an error", got)
	}
	eventually(t, "the request is counted", func() bool {
		return h.counts(t, "punchclock.http.requests")["http.request.method=POST,http.route=/v1/punches,outcome=unavailable"] == 1
	})
	if h.InFlight() != 0 {
		t.Errorf("%d punches are in flight after the panic", h.InFlight())
	}
}
