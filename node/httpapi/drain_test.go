package httpapi

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

// TestAnswersOfADrainingNodeEndTheirConnection uses one keep-alive client that never retries. After the node has begun
// to drain, the client opens a new connection, and no request fails.
func TestAnswersOfADrainingNodeEndTheirConnection(t *testing.T) {
	for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		t.Run(protocol, func(t *testing.T) {
			h := newHarness(t)
			server := httptest.NewUnstartedServer(h.API)
			server.EnableHTTP2 = http2
			server.StartTLS()
			defer server.Close()
			transport := server.Client().Transport.(*http.Transport)
			if !http2 {
				transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			authorization := h.as(t, auth.Kiosk, "gate")
			sent := 0
			// send returns whether the request travelled on a connection that an earlier one had used.
			send := func(path, body string) (reused bool, resp *http.Response) {
				sent++
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
					GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
				})
				method := http.MethodGet
				if body != "" {
					method = http.MethodPost
				}
				req, err := http.NewRequestWithContext(ctx, method, server.URL+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if !http2 {
					req.GetBody = nil // net/http must not send the request again by itself
				} // over HTTP/2 a GOAWAY names the requests that were not served, so net/http may send them again
				req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {authorization}}
				resp, err = transport.RoundTrip(req)
				if err != nil {
					t.Fatalf("request %d: %v", sent, err)
				}
				defer resp.Body.Close() //nolint:errcheck // read to its end
				if _, err := io.ReadAll(resp.Body); err != nil || resp.Proto != protocol {
					t.Fatalf("request %d by %s: %v", sent, resp.Proto, err)
				}
				return reused, resp
			}
			send("/v1/punches", someone(0))
			for i := range 5 {
				if reused, resp := send("/v1/punches", someone(i)); !reused || resp.Close {
					t.Fatalf("request %d of a node in service: reused %t, close %t", sent, reused, resp.Close)
				}
			}
			for _, leaves := range []interface{ Store(bool) }{&h.draining, &h.clockWrong} {
				leaves.Store(true)
				for _, path := range []string{"/v1/regions", "/readyz", "/no/such/path", "/v1/punches"} {
					body := map[string]string{"/v1/punches": someone(sent)}[path]
					_, resp := send(path, body)
					if !http2 && !resp.Close {
						t.Errorf("%s: the answer does not end its connection", path)
					}
					if resp.Header.Get("Connection") != "" && http2 {
						t.Errorf("%s: a Connection header over HTTP/2", path)
					}
					// A GOAWAY may arrive after the answer. A request sent before it is still served.
					eventually(t, path+" ended its connection", func() bool {
						reused, _ := send("/v1/regions", "")
						return !reused
					})
				}
				leaves.Store(false)
			}
		})
	}
}

// TestANodeWithAWrongClockTakesNoPunch holds that a wrong clock blames no device and stamps no punch. Reads go on.
func TestANodeWithAWrongClockTakesNoPunch(t *testing.T) {
	h := newHarness(t)
	h.clockWrong.Store(true)
	for name, got := range map[string]response{
		"a punch": h.punch(t, good),
		"a batch": h.batch(t, batchOf(someone(1), someone(2)), h.as(t, auth.Kiosk, "gate")),
		"a punch that this clock would call ahead": h.punch(t, strings.Replace(good, goodID, idAt(2*time.Hour), 1)),
	} {
		p := got.problem(t)
		if got.status != http.StatusServiceUnavailable || p.Code != punch.Unavailable || p.Final || got.header.Get("Retry-After") != "0" || p.RetryAfter != 0 {
			t.Errorf("%s was answered %d %+v, want 503 unavailable with a Retry-After of 0, so that a device asks another node at once", name, got.status, p)
		}
	}
	if len(h.store.punches) > 0 {
		t.Errorf("%d punches were stamped with a wrong receive time", len(h.store.punches))
	}
	if got := h.get(t, "/v1/employees/e-1/punches", auth.Manager, "boss"); got.status != http.StatusOK {
		t.Errorf("a read was answered %d", got.status)
	}
	// By a wrong clock a good token may have expired: 401 would make the device believe it.
	read := request{method: http.MethodGet, path: "/v1/employees/e-1/punches", authorization: "Bearer expired"}
	if got := h.send(t, read); got.status != http.StatusServiceUnavailable {
		t.Errorf("a token that does not hold by a wrong clock was answered %d", got.status)
	}
	h.clockWrong.Store(false)
	if got := h.send(t, read); got.status != http.StatusUnauthorized {
		t.Errorf("a token that does not hold by a right clock was answered %d", got.status)
	}
	if got := h.punch(t, good); got.status != http.StatusCreated {
		t.Errorf("after the clock was corrected: %d %s", got.status, got.body)
	}
}
