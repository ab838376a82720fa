package httpapi

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

func (h *harness) punch(tb testing.TB, body string) response {
	tb.Helper()
	return h.send(tb, request{method: "POST", path: "/v1/punches", body: body, authorization: h.as(tb, auth.Kiosk, "gate")})
}

func TestReceiptOfANewPunchAndOfItsReplay(t *testing.T) {
	h := newHarness(t)
	id := idAt(-time.Second)
	body := `{"id":"` + strings.ToUpper(id) + `","employee":"e-1","kind":"break_start","at":"2026-03-01T08:59:30.1256789+01:00","source":"gate-3","note":"café"}`
	got := h.punch(t, body)
	receipt := got.receipt(t)
	want := wireReceipt{
		ID: id, Company: "acme", Employee: "e-1", Kind: "break_start",
		PunchedAt: "2026-03-01T07:59:30.125678Z", ReceivedAt: "2026-03-01T08:00:00.123456Z", RecordedAt: "2026-03-01T08:00:00.129456Z",
		Zone: "Europe/Berlin", UTCOffset: "+01:00", HomeRegion: "eu-west", EntryRegion: "us-east",
		Marks: []string{}, TraceID: receipt.TraceID,
	}
	if got.status != http.StatusCreated || !reflect.DeepEqual(receipt, want) {
		t.Errorf("answer is %d %+v\nwant 201 %+v", got.status, receipt, want)
	}
	if len(receipt.TraceID) != 32 {
		t.Errorf("trace id is %q", receipt.TraceID)
	}
	for name, value := range map[string]string{
		"Location": "/v1/employees/e-1/punches/" + id, "Punchclock-Node": "us-east-n1-x",
		"Punchclock-Home-Region": "eu-west", "Cache-Control": "no-store", "Content-Type": "application/json",
	} {
		if got.header.Get(name) != value {
			t.Errorf("header %s is %q, want %q", name, got.header.Get(name), value)
		}
	}
	again := h.punch(t, body)
	want.Replayed = true
	if receipt := again.receipt(t); again.status != http.StatusOK || !reflect.DeepEqual(receipt, want) {
		t.Errorf("replay is %d %+v\nwant 200 %+v", again.status, receipt, want)
	}
}

func TestMarksOfOldPunches(t *testing.T) {
	h := newHarness(t)
	for age, want := range map[time.Duration][]string{
		7*24*time.Hour - time.Minute: {}, 8 * 24 * time.Hour: {"late"}, 400 * 24 * time.Hour: {"late", "review"},
	} {
		got := h.punch(t, `{"id":"`+idAt(-age)+`","employee":"e-1","kind":"auto"}`).receipt(t)
		if !reflect.DeepEqual(got.Marks, want) {
			t.Errorf("marks of a punch %s old are %v, want %v", age, got.Marks, want)
		}
	}
}

func TestSourceAndNoteDoNotMakeAnotherPunch(t *testing.T) {
	h := newHarness(t)
	start := `{"id":"` + idAt(0) + `","employee":"e-1","kind":"in"`
	for i, body := range []string{start + `}`, start + `,"note":""}`, start + `,"note":null,"at":null,"source":null}`,
		start + `,"note":"x"}`, start + `,"source":"gate-2"}`, start + `,"at":"2026-03-01T08:00:00.123Z"}`} {
		if got := h.punch(t, body).receipt(t); got.Replayed != (i > 0) {
			t.Errorf("%s: replayed is %t", body, got.Replayed)
		}
	}
	if got := h.punch(t, start+`,"at":"2026-03-01T08:00:00.124Z"}`); got.status != http.StatusConflict {
		t.Errorf("another time was answered %d, want 409", got.status)
	}
}

// badPunches are refused with the named field. A punch is beyond when openapi.yaml has no way to forbid it.
var badPunches = map[string]struct {
	body, field, detail string
	beyond              bool
}{
	"no JSON":           {body: `hello`, detail: "is not valid JSON"},
	"nothing":           {body: ``, detail: "empty or ends too early"},
	"cut":               {body: `{"id":"` + goodID, field: "id", detail: "ends too early"},
	"two values":        {body: good + good, detail: "is not valid JSON", beyond: true},
	"null":              {body: `null`, detail: "must be a JSON object"},
	"array":             {body: `[` + good + `]`, detail: "must be a JSON object"},
	"empty object":      {body: `{}`, field: "id", detail: "UUID of version 7"},
	"no id":             {body: `{"employee":"e-1","kind":"in"}`, field: "id", detail: "UUID of version 7"},
	"UUIDv4":            {body: `{"id":"6f1de07b-9a11-4c3e-8a54-2f1de07b9a11","employee":"e-1","kind":"in"}`, field: "id", detail: "UUID of version 7"},
	"id with braces":    {body: `{"id":"{` + goodID + `}","employee":"e-1","kind":"in"}`, field: "id", detail: "UUID of version 7"},
	"id is a number":    {body: `{"id":5,"employee":"e-1","kind":"in"}`, field: "id", detail: "must be a string"},
	"id is null":        {body: `{"id":null,"employee":"e-1","kind":"in"}`, field: "id", detail: "UUID of version 7"},
	"no employee":       {body: `{"id":"` + goodID + `","kind":"in"}`, field: "employee", detail: "letters, digits"},
	"employee, slash":   {body: `{"id":"` + goodID + `","employee":"a/b","kind":"in"}`, field: "employee", detail: "letters, digits"},
	"employee, long":    {body: `{"id":"` + goodID + `","employee":"` + strings.Repeat("e", 65) + `","kind":"in"}`, field: "employee", detail: "1 to 64"},
	"no kind":           {body: `{"id":"` + goodID + `","employee":"e-1"}`, field: "kind", detail: "must be one of"},
	"kind, case":        {body: `{"id":"` + goodID + `","employee":"e-1","kind":"IN"}`, field: "kind", detail: "must be one of"},
	"kind is an object": {body: `{"id":"` + goodID + `","employee":"e-1","kind":{"x":1}}`, field: "kind", detail: "must be a string"},
	"at, no zone":       {body: with(`"at":"2026-03-01T08:59:30"`), field: "at", detail: "RFC 3339"},
	"at, hour":          {body: with(`"at":"2026-03-01T8:59:30Z"`), field: "at", detail: "RFC 3339"},
	"at, zone hour":     {body: with(`"at":"2026-03-01T08:59:30+24:00"`), field: "at", detail: "RFC 3339", beyond: true},
	"at, zone minute":   {body: with(`"at":"2026-03-01T08:59:30-00:60"`), field: "at", detail: "RFC 3339", beyond: true},
	"at, no such day":   {body: with(`"at":"2026-02-29T08:59:30Z"`), field: "at", detail: "RFC 3339", beyond: true},
	"at, empty":         {body: with(`"at":""`), field: "at", detail: "RFC 3339"},
	"at, comma":         {body: with(`"at":"2026-03-01T08:59:30,5Z"`), field: "at", detail: "RFC 3339"},
	"at, a number":      {body: with(`"at":1772352000`), field: "at", detail: "must be a string"},
	"at, far from id":   {body: with(`"at":"2026-02-27T08:59:30Z"`), field: "at", detail: "within 24 hours", beyond: true},
	"source, empty":     {body: with(`"source":""`), field: "source", detail: "must not be empty"},
	"source, spaces":    {body: with(`"source":"gate 3"`), field: "source", detail: "letters, digits"},
	"note, long":        {body: with(`"note":"` + strings.Repeat("n", 501) + `"`), field: "note", detail: "at most 500 bytes"},
	"note, long bytes":  {body: with(`"note":"` + strings.Repeat("é", 251) + `"`), field: "note", detail: "at most 500 bytes", beyond: true},
	"note, NUL":         {body: with(`"note":"a\u0000b"`), field: "note", detail: "NUL", beyond: true},
	"note, bad UTF-8":   {body: with("\"note\":\"a\xffb\""), field: "note", detail: "UTF-8", beyond: true},
	"note, half a pair": {body: with(`"note":"\ud83d"`), field: "note", detail: "UTF-8", beyond: true},
	"company":           {body: with(`"company":"rival"`), field: "company", detail: "is not a field of a punch"},
	"case of a name":    {body: with(`"Note":"x"`), field: "Note", detail: "is not a field of a punch"},
	"a name twice":      {body: with(`"kind":"out"`), field: "kind", detail: "must appear only once", beyond: true},
	"endless name":      {body: with(`"` + strings.Repeat("x", 100) + `":1`), field: strings.Repeat("x", 64), detail: "is not a field of a punch"},
}

var (
	goodID = punch.IDAt(now).String()
	good   = `{"id":"` + goodID + `","employee":"e-1","kind":"in"}`
)

// with returns the valid punch with one more member.
func with(member string) string { return strings.TrimSuffix(good, "}") + "," + member + "}" }

func TestBadPunchesAreRefusedByField(t *testing.T) {
	h := newHarness(t)
	for name, tt := range badPunches {
		t.Run(name, func(t *testing.T) {
			got := h.punch(t, tt.body)
			p := got.problem(t)
			if got.status != http.StatusBadRequest || p.Code != punch.Invalid || p.Field != tt.field || !strings.Contains(p.Detail, tt.detail) || !p.Final {
				t.Errorf("%s was answered %d %+v\nwant 400 invalid for field %q that says %q", tt.body, got.status, p, tt.field, tt.detail)
			}
			if forbidden := documentForbids(t, tt.body) != nil; forbidden == tt.beyond {
				t.Errorf("openapi.yaml forbids %s: %t, want %t", tt.body, forbidden, !tt.beyond)
			}
		})
	}
	if len(h.store.punches) != 0 {
		t.Errorf("%d bad punches reached the recorder", len(h.store.punches))
	}
}

// documentForbids returns why openapi.yaml forbids the body of a punch.
func documentForbids(tb testing.TB, body string) error {
	tb.Helper()
	router, err := contract()
	if err != nil {
		tb.Fatal(err)
	}
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "/v1/punches", strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	route, params, err := router.FindRoute(req)
	if err != nil {
		tb.Fatal(err)
	}
	return openapi3filter.ValidateRequest(tb.Context(), &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	})
}

func TestBodiesThatAreNotTaken(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.MaxBody = int64(len(good)) })
	kiosk := h.as(t, auth.Kiosk, "gate")
	post := request{method: "POST", path: "/v1/punches", authorization: kiosk, body: good}
	tests := map[string]struct {
		change func(*request)
		status int
	}{
		"as large as allowed": {func(*request) {}, 201},
		"one byte more":       {func(r *request) { r.body += " " }, 413},
		"one byte more, of unknown length": {func(r *request) {
			r.reader = struct{ *strings.Reader }{strings.NewReader(good + " ")} // hides the length
		}, 413},
		"charset":       {func(r *request) { r.header = http.Header{"Content-Type": {"application/json; charset=utf-8"}} }, 200},
		"identity":      {func(r *request) { r.header = http.Header{"Content-Encoding": {"identity"}} }, 200},
		"compressed":    {func(r *request) { r.header = http.Header{"Content-Encoding": {"gzip"}} }, 415},
		"form":          {func(r *request) { r.header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}} }, 415},
		"merge patch":   {func(r *request) { r.header = http.Header{"Content-Type": {"application/merge-patch+json"}} }, 415},
		"no type":       {func(r *request) { r.header = http.Header{"Content-Type": {""}} }, 415},
		"rubbish type":  {func(r *request) { r.header = http.Header{"Content-Type": {"application/json; charset"}} }, 415},
		"problem first": {func(r *request) { r.header = http.Header{"Content-Type": {"application/problem+json"}} }, 415},
	}
	h.punch(t, good)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := post
			tt.change(&r)
			want := tt.status
			if want == 201 { // it is there already
				want = 200
			}
			if got := h.send(t, r); got.status != want {
				t.Errorf("answered %d %s, want %d", got.status, got.body, want)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	h := newHarness(t)
	token := h.as(t, auth.Employee, "e-1")
	raw := strings.TrimPrefix(token, "Bearer ")
	for _, tt := range []struct {
		authorization string
		status        int
		challenge     string
	}{
		{token, 201, ""},
		{"bearer  " + raw, 200, ""},
		{"", 401, `Bearer realm="punchclock"`},
		{raw, 401, `Bearer realm="punchclock"`},
		{"Basic " + raw, 401, `Bearer realm="punchclock"`},
		{"Bearer x" + raw, 401, `Bearer realm="punchclock", error="invalid_token"`},
	} {
		got := h.send(t, request{method: "POST", path: "/v1/punches", body: good, authorization: tt.authorization})
		if got.status != tt.status || got.header.Get("WWW-Authenticate") != tt.challenge {
			t.Errorf("Authorization %.12q was answered %d with challenge %q, want %d and %q",
				tt.authorization, got.status, got.header.Get("WWW-Authenticate"), tt.status, tt.challenge)
		}
		if got.status == http.StatusUnauthorized && got.problem(t).Final {
			t.Error("a wrong token is called final")
		}
	}
	other := strings.Replace(good, "e-1", "e-2", 1)
	got := h.send(t, request{method: "POST", path: "/v1/punches", body: other, authorization: token})
	if p := got.problem(t); got.status != http.StatusForbidden || p.Field != "employee" || !p.Final {
		t.Errorf("a punch for somebody else was answered %d %+v, want 403 for employee", got.status, p)
	}
}

func TestRefusalsTellWhenToRetry(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		code   punch.Code
		after  string
	}{
		{punch.Retryable(punch.Overloaded, 0, "full", nil), 503, "overloaded", "1"},
		{punch.Retryable(punch.Unavailable, 1500*time.Millisecond, "away", nil), 503, "unavailable", "2"},
		{punch.Retryable(punch.RateLimited, 3*time.Second, "slow down", nil), 429, "rate_limited", "3"},
		{punch.Retryable(punch.ClockAhead, 90*time.Second, "ahead", nil), 422, "clock_ahead", "90"},
		{punch.Retryable(punch.NotHome, time.Second, "epoch 7 at us-east", nil), 503, "unavailable", "1"},
		{punch.Errorf("of_a_newer_node", "secret"), 503, "unavailable", "1"},
		{punch.Retryable(punch.Conflict, time.Second, "used", nil), 409, "conflict", ""},
		{errors.New("pq: password of user root"), 503, "unavailable", "1"},
		{context.DeadlineExceeded, 503, "unavailable", "1"},
	} {
		h := newHarness(t)
		h.store.fail = func(context.Context, string) error { return tt.err }
		got := h.punch(t, good)
		p := got.problem(t)
		if got.status != tt.status || p.Status != tt.status || p.Code != tt.code || got.header.Get("Retry-After") != tt.after {
			t.Errorf("%v was answered %d, code %q, Retry-After %q; want %d, %q, %q", tt.err, got.status, p.Code, got.header.Get("Retry-After"), tt.status, tt.code, tt.after)
		}
		if p.Final != tt.code.Final() || p.Type != "urn:punchclock:problem:"+string(tt.code) || p.Title == "" || len(p.TraceID) != 32 {
			t.Errorf("problem is %+v", p)
		}
		for _, secret := range []string{"epoch", "secret", "password"} {
			if strings.Contains(string(got.body), secret) {
				t.Errorf("the answer tells internals: %s", got.body)
			}
		}
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	h := newHarness(t)
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/v2/punches", 404, ""},
		{"POST", "/v1/punches/", 404, ""},
		{"GET", "/v1/employees//punches", 404, ""},
		{"GET", "/v1/punches", 405, "POST"},
		{"PUT", "/v1/punches/batch", 405, "POST"},
		{"DELETE", "/v1/employees/e-1/punches", 405, "GET, HEAD"},
		{"PATCH", "/v1/employees/e-1/punches/x", 405, "GET, HEAD"},
		{"POST", "/v1/regions", 405, "GET, HEAD"},
		{"BREW", "/openapi.yaml", 405, "GET, HEAD"},
	} {
		got := h.send(t, request{method: tt.method, path: tt.path})
		if got.status != tt.status || got.header.Get("Allow") != tt.allow {
			t.Errorf("%s %s was answered %d with Allow %q, want %d and %q", tt.method, tt.path, got.status, got.header.Get("Allow"), tt.status, tt.allow)
		}
	}
}

func TestPunchHasTheDeadline(t *testing.T) {
	h := newHarness(t, func(c *Config, _ *Deps) { c.PunchTimeout = time.Hour })
	left := make(chan time.Duration, 1)
	h.store.fail = func(ctx context.Context, _ string) error {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		return nil
	}
	h.punch(t, good)
	if got := <-left; got < 50*time.Minute || got > time.Hour {
		t.Errorf("the recorder has %s, want an hour", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"Node": func(c *Config) { c.Node = "" }, "Region": func(c *Config) { c.Region = "" },
		"PunchTimeout": func(c *Config) { c.PunchTimeout = 0 }, "MaxBody": func(c *Config) { c.MaxBody = 0 },
	} {
		cfg := Config{Node: "n", Region: "us-east", PunchTimeout: time.Second, MaxBody: 1}
		change(&cfg)
		if _, err := New(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("New with a bad %s = %v, want an error that names it", field, err)
		}
	}
}
