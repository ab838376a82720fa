package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

// level serves punches only, and asks for later uploads when it is busy or an answer refuses.
type level struct {
	wait time.Duration // of classes that are not served; 0 when all are
	busy time.Duration // before uploads
}

func (l level) Serves(class admission.Class) (time.Duration, bool) {
	return l.wait, l.wait == 0 || class != admission.Read
}

func (l level) UploadAfter(refused bool) time.Duration {
	if refused {
		return 90 * time.Second
	}
	return l.busy
}

// TestEveryRouteHasAClass holds that a new route must say at which levels of degradation it is served: by its class, or by
// standing in this list of routes that cost no database.
func TestEveryRouteHasAClass(t *testing.T) {
	h := newHarness(t)
	always := []string{"/v1/regions", "/readyz", "/openapi.yaml"}
	for _, rt := range h.routes() {
		switch {
		case slices.Contains(always, rt.path) == rt.gated:
			t.Errorf("%s %s: gated is %t; a route has a class, or is listed here as one that is always served", rt.method, rt.path, rt.gated)
		case rt.gated && rt.class == admission.Forwarded:
			t.Errorf("%s %s has the class of forwarded punches, which no public route has", rt.method, rt.path)
		}
	}
}

// TestADegradedNodeServesPunchesOnly reads and punches at a level that serves no reads. The refusal must come before the
// token is looked at.
func TestADegradedNodeServesPunchesOnly(t *testing.T) {
	h := newHarness(t, func(_ *Config, deps *Deps) { deps.Levels = level{wait: 29500 * time.Millisecond} })
	for _, path := range []string{"/v1/employees/anna/punches", "/v1/employees/anna/punches/" + punch.NewID().String()} {
		for _, authorization := range []string{h.as(t, auth.Employee, "anna"), "Bearer none"} {
			got := h.send(t, request{method: "GET", path: path, authorization: authorization})
			problem := got.problem(t)
			if got.status != http.StatusServiceUnavailable || problem.Code != punch.Degraded || problem.Final || problem.RetryAfter != 30 ||
				got.header.Get("Retry-After") != "30" {
				t.Errorf("GET %s: %d, %+v, Retry-After %q, want 503 degraded, 30", path, got.status, problem, got.header.Get("Retry-After"))
			}
			if after := got.header.Get(uploadAfter); after != "" {
				t.Errorf("GET %s: %s %q; a level says nothing about uploads", path, uploadAfter, after)
			}
		}
	}
	token := h.as(t, auth.Manager, "m")
	one := func(employee string) string {
		return `{"id":"` + punch.IDAt(now).String() + `","employee":"` + employee + `","kind":"in"}`
	}
	for path, c := range map[string]struct {
		body   string
		status int
	}{"/v1/punches": {one("anna"), http.StatusCreated}, "/v1/punches/batch": {`{"punches":[` + one("ben") + `]}`, http.StatusOK}} {
		if got := h.send(t, request{method: "POST", path: path, authorization: token, body: c.body}); got.status != c.status {
			t.Errorf("POST %s: %d %s, want %d", path, got.status, got.body, c.status)
		}
	}
	for _, path := range []string{"/readyz", "/openapi.yaml"} {
		if got := h.send(t, request{method: "GET", path: path}); got.status != http.StatusOK {
			t.Errorf("GET %s: %d, want 200 at every level", path, got.status)
		}
	}
}

// TestUploadsAreAskedToWait reads the header of answers of a quiet node, of one near its limit and of one that refuses.
func TestUploadsAreAskedToWait(t *testing.T) {
	refuses := func(code punch.Code) func(context.Context, string) error {
		return func(context.Context, string) error { return punch.Retryable(code, time.Second, "not now", nil) }
	}
	ok := request{method: "POST", path: "/v1/punches", body: `{"id":"` + punch.IDAt(now).String() + `","employee":"anna","kind":"in"}`}
	for name, c := range map[string]struct {
		change func(*Config, *Deps)
		status int
		want   int // seconds; 0 for no header
	}{
		"quiet":          {func(*Config, *Deps) {}, http.StatusCreated, 0},
		"near its limit": {func(_ *Config, d *Deps) { d.Levels = level{busy: 41500 * time.Millisecond} }, http.StatusCreated, 42},
		"full at the door": {func(_ *Config, d *Deps) {
			d.Levels, d.Gate = level{}, &fullGate{wait: time.Second}
		}, http.StatusServiceUnavailable, 90},
		"full behind the door": {func(_ *Config, d *Deps) {
			d.Levels, d.Recorder.(*store).fail = level{}, refuses(punch.Overloaded)
		}, http.StatusServiceUnavailable, 90},
		"away": {func(_ *Config, d *Deps) {
			d.Levels, d.Recorder.(*store).fail = level{}, refuses(punch.Unavailable)
		}, http.StatusServiceUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, c.change)
			r := ok
			r.authorization = h.as(t, auth.Manager, "m")
			got := h.send(t, r)
			seconds, _ := strconv.Atoi(got.header.Get(uploadAfter))
			if got.status != c.status || seconds != c.want || len(got.header[uploadAfter]) > 1 {
				t.Errorf("%d with %s %q, want %d with %d", got.status, uploadAfter, got.header[uploadAfter], c.status, c.want)
			}
		})
	}
}
