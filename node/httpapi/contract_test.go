package httpapi

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

// contract is openapi.yaml, read once for all tests.
var contract = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openapi)
	if err != nil {
		return nil, err
	}
	return legacy.NewRouter(doc, openapi3.EnableExamplesValidation())
})

func mustDocument(tb testing.TB) *openapi3.T {
	tb.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openapi)
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

// holdToDocument fails the test when an answer differs from openapi.yaml, or when a request succeeds that openapi.yaml
// forbids.
func holdToDocument(tb testing.TB, r request, got response) {
	tb.Helper()
	router, err := contract()
	if err != nil {
		tb.Fatal(err)
	}
	req, err := http.NewRequestWithContext(tb.Context(), r.method, r.path, strings.NewReader(r.body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {r.authorization}}
	maps.Copy(req.Header, r.header)
	route, params, err := router.FindRoute(req)
	if err != nil {
		holdToProblem(tb, got)
		return
	}
	for name, value := range params { // this router leaves the escapes in
		if params[name], err = url.PathUnescape(value); err != nil {
			tb.Fatal(err)
		}
	}
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	// A batch is answered 200 even when every item is invalid.
	if got.status < 300 && r.reader == nil && route.Operation.OperationID != "recordBatch" {
		if err := openapi3filter.ValidateRequest(tb.Context(), input); err != nil {
			tb.Errorf("%s %s was answered %d, but openapi.yaml forbids the request %.500s: %v", r.method, r.path, got.status, r.body, err)
		}
	}
	err = openapi3filter.ValidateResponse(tb.Context(), (&openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: got.status, Header: got.header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}).SetBodyBytes(got.body))
	if err != nil {
		tb.Errorf("%s %s: the answer %d %.500s is not as openapi.yaml says: %v", r.method, r.path, got.status, got.body, err)
	}
}

// holdToProblem checks the answer to a path or method that is no operation of openapi.yaml.
func holdToProblem(tb testing.TB, got response) {
	tb.Helper()
	schema := mustDocument(tb).Components.Schemas["Problem"].Value
	if err := schema.VisitJSON(mustDecode[any](tb, got.body)); err != nil || got.header.Get("Content-Type") != "application/problem+json" {
		tb.Errorf("the answer %d %s %s is no problem as openapi.yaml says: %v", got.status, got.header, got.body, err)
	}
}

func TestDocumentIsValid(t *testing.T) {
	if err := mustDocument(t).Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}

func TestDocumentHasEveryRouteAndNoOther(t *testing.T) {
	served := map[string]bool{}
	for _, rt := range newHarness(t).routes() {
		served[rt.method+" "+rt.path] = rt.anonymous
	}
	documented := map[string]bool{}
	doc := mustDocument(t)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			documented[method+" "+path] = op.Security != nil && len(*op.Security) == 0
		}
	}
	if !maps.Equal(served, documented) {
		t.Errorf("routes (and whether they are open) are %v, openapi.yaml has %v", served, documented)
	}
}

// TestDocumentKnowsEveryCode compares the codes in openapi.yaml with the codes that have a status.
func TestDocumentKnowsEveryCode(t *testing.T) {
	var documented, told []string
	for _, code := range mustDocument(t).Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		documented = append(documented, code.(string))
	}
	for code := range refusals {
		told = append(told, string(code))
	}
	slices.Sort(documented)
	slices.Sort(told)
	if !slices.Equal(documented, told) {
		t.Errorf("the codes told are %v, openapi.yaml has %v", told, documented)
	}
}

// situation is a request, and a state of the service, that together lead to a status.
type situation struct {
	request
	fail error // what the recorder or reader answers
	away bool  // the node is not ready
}

// situations has, for each operation, one situation per documented status.
func situations(tb testing.TB, h *harness) map[string]map[int]situation {
	tb.Helper()
	ready := request{method: "GET", path: "/readyz"}
	kiosk, manager := h.as(tb, auth.Kiosk, "gate"), h.as(tb, auth.Manager, "boss")
	plain := request{method: "POST", path: "/v1/punches", authorization: kiosk, body: `{"id":"` + idAt(0) + `","employee":"e-1","kind":"in"}`}
	replay := request{method: "POST", path: "/v1/punches", authorization: kiosk, body: `{"id":"` + idAt(0) + `","employee":"known","kind":"in"}`}
	if got := h.send(tb, replay).status; got != http.StatusCreated {
		tb.Fatalf("the punch that others refer to was answered %d", got)
	}
	batch := request{method: "POST", path: "/v1/punches/batch", authorization: kiosk, body: `{"punches":[` + plain.body + `]}`}
	list := request{method: "GET", path: "/v1/employees/known/punches", authorization: manager}
	find := request{method: "GET", path: locationIn(h), authorization: manager}
	regions := request{method: "GET", path: "/v1/regions", authorization: kiosk}

	with := func(r request, change func(*request)) situation { change(&r); return situation{request: r} }
	anonymous := func(r *request) { r.authorization = "" }
	stranger := func(r *request) { r.authorization = h.as(tb, auth.Employee, "stranger") }
	broken := func(r *request) { r.body = `{"id":` }
	large := func(r *request) { r.body = strings.Repeat(" ", 1<<20) + r.body }
	xml := func(r *request) { r.header = http.Header{"Content-Type": {"application/xml"}} }
	refused := func(code punch.Code) error { return punch.Errorf(code, "said by a test") }
	torn := func(r *request) {
		r.reader = io.MultiReader(strings.NewReader("{"), iotest.ErrReader(errors.New("fell into the sea")))
	}

	return map[string]map[int]situation{
		"recordPunch": {
			200: {request: replay}, 201: {request: plain},
			400: with(plain, broken), 401: with(plain, anonymous), 403: with(plain, stranger),
			404: {request: plain, fail: refused(punch.UnknownCompany)}, 409: {request: plain, fail: refused(punch.Conflict)},
			413: with(plain, large), 415: with(plain, xml),
			422: {request: plain, fail: refused(punch.ClockAhead)}, 429: {request: plain, fail: refused(punch.RateLimited)},
			503: {request: plain, fail: errors.New("connection refused by 10.0.0.7")},
		},
		"recordBatch": {
			200: {request: batch}, 400: with(batch, broken), 401: with(batch, anonymous),
			413: with(batch, large), 415: with(batch, xml), 503: with(batch, torn),
		},
		"listPunches": {
			200: {request: list}, 400: with(list, func(r *request) { r.path += "?from=yesterday" }),
			401: with(list, anonymous), 403: with(list, stranger),
			404: {request: list, fail: refused(punch.UnknownCompany)}, 503: {request: list, fail: refused(punch.Unavailable)},
		},
		"findPunch": {
			200: {request: find}, 400: with(find, func(r *request) { r.path += "x" }),
			401: with(find, anonymous), 403: with(find, stranger),
			404: with(find, func(r *request) { r.path = "/v1/employees/e-9/punches/" + idAt(0) }), 503: {request: find, fail: context.DeadlineExceeded},
		},
		"listRegions":  {200: {request: regions}, 401: with(regions, anonymous)},
		"getReadiness": {200: {request: ready}, 503: {request: ready, away: true}},
		"getDocument":  {200: {request: request{method: "GET", path: "/openapi.yaml"}}},
	}
}

func locationIn(h *harness) string {
	for _, r := range h.store.receipts {
		return locationOf(&r)
	}
	return ""
}

func TestEveryDocumentedStatusIsAnsweredAsDocumented(t *testing.T) {
	var documented, exercised []string
	for _, item := range mustDocument(t).Paths.Map() {
		for _, op := range item.Operations() {
			for status := range op.Responses.Map() {
				documented = append(documented, op.OperationID+" "+status)
			}
		}
	}
	for operation, byStatus := range situations(t, newHarness(t)) {
		for status := range byStatus {
			exercised = append(exercised, operation+" "+strconv.Itoa(status))
			t.Run(operation+" "+strconv.Itoa(status), func(t *testing.T) {
				h := newHarness(t)
				s := situations(t, h)[operation][status]
				h.store.fail = func(context.Context, string) error { return s.fail }
				h.away.Store(s.away)
				got := h.send(t, s.request)
				if got.status != status {
					t.Errorf("%s %s was answered %d %s, want %d", s.method, s.path, got.status, got.body, status)
				}
				if strings.Contains(string(got.body), "10.0.0.7") {
					t.Errorf("the answer tells internals: %s", got.body)
				}
			})
		}
	}
	slices.Sort(documented)
	slices.Sort(exercised)
	if !slices.Equal(documented, exercised) {
		t.Errorf("exercised are %v, openapi.yaml has %v", exercised, documented)
	}
}
