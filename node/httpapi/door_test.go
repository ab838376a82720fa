package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

// fullGate refuses all requests and keeps what it was asked.
type fullGate struct {
	wait time.Duration

	mu    sync.Mutex // guards asked
	asked []asked
}

type asked struct {
	class   admission.Class
	company string
	n       int
	waited  time.Duration
}

func (g *fullGate) Enter(class admission.Class, company string, n int, waited time.Duration) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, asked{class, company, n, waited})
	return g.wait, false
}

func (g *fullGate) Leave(int) { panic("nothing has entered") }

// TestAFullNodeRefusesAtTheDoor holds that a refused request costs neither a look at its token's signature nor a decoded
// body. Its answer must tell a device what to do.
func TestAFullNodeRefusesAtTheDoor(t *testing.T) {
	gate := &fullGate{wait: 7 * time.Second}
	const wait = 70 * time.Millisecond
	h := newHarness(t, func(_ *Config, deps *Deps) {
		deps.Gate, deps.Waited = gate, func(context.Context) (time.Duration, bool) { return wait, false }
	})
	token := h.as(t, auth.Employee, "anna")
	for _, c := range []struct {
		request
		want asked
	}{
		{request{method: "POST", path: "/v1/punches", authorization: token, body: `{"id":`}, asked{admission.Interactive, "unverified acme", 1, wait}},
		{request{method: "POST", path: "/v1/punches", authorization: "Bearer none", body: `{}`}, asked{admission.Interactive, "", 1, wait}},
		{
			request{method: "POST", path: "/v1/punches/batch", authorization: token, body: strings.Repeat(" ", 1200)},
			asked{admission.Stored, "unverified acme", 2, wait},
		},
		{request{method: "GET", path: "/v1/employees/anna/punches", authorization: token}, asked{admission.Read, "unverified acme", 1, wait}},
	} {
		got := h.send(t, c.request)
		problem := got.problem(t)
		if got.status != http.StatusServiceUnavailable || problem.Code != punch.Overloaded || problem.Final || problem.RetryAfter != 7 {
			t.Errorf("%s %s: %d, %+v", c.method, c.path, got.status, problem)
		}
		if after := got.header.Get("Retry-After"); after != "7" {
			t.Errorf("%s %s: Retry-After %q, want 7", c.method, c.path, after)
		}
		if last := gate.asked[len(gate.asked)-1]; last != c.want {
			t.Errorf("%s %s: the gate was asked for %+v, want %+v", c.method, c.path, last, c.want)
		}
	}
	for _, path := range []string{"/readyz", "/openapi.yaml"} {
		if got := h.send(t, request{method: "GET", path: path}); got.status != http.StatusOK || len(gate.asked) != 4 {
			t.Errorf("%s: %d; health checks and the contract must pass a full node", path, got.status)
		}
	}
}

// TestARefusalKeepsItsConnection sends several requests to a full node: a new connection would cost more than the
// refusals.
func TestARefusalKeepsItsConnection(t *testing.T) {
	h := newHarness(t, func(_ *Config, deps *Deps) { deps.Gate = &fullGate{wait: time.Hour} })
	for i := range 5 {
		var reused bool
		trace := httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &trace), http.MethodPost, h.url+"/v1/punches",
			strings.NewReader(`{"kind":"in"}`))
		if err != nil {
			t.Fatal(err)
		}
		res, err := h.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if after, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || after != longestRetryAfter {
			t.Errorf("Retry-After %q, want the bound %d", res.Header.Get("Retry-After"), longestRetryAfter)
		}
		if i > 0 && !reused {
			t.Error("a refusal ended its connection")
		}
	}
}

// TestACallerThatHasLeftCostsNoWork holds that the request of a caller that has left is neither decoded nor recorded, and
// that the gate does not count it.
func TestACallerThatHasLeftCostsNoWork(t *testing.T) {
	gate := &fullGate{}
	h := newHarness(t, func(_ *Config, deps *Deps) {
		deps.Gate, deps.Waited = gate, func(context.Context) (time.Duration, bool) { return time.Second, true }
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/punches", strings.NewReader(`{"kind":"in"}`))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := h.client.Do(req); err == nil {
		_ = res.Body.Close()
		t.Errorf("answered %d to a caller that has left", res.StatusCode)
	}
	if len(gate.asked) != 0 {
		t.Errorf("the gate was asked for %+v", gate.asked)
	}
	if n := h.counts(t, "punchclock.http.requests")["http.request.method=POST,http.route=/v1/punches,outcome=gone"]; n != 1 {
		t.Errorf("%d requests are counted as gone, want 1", n)
	}
}
