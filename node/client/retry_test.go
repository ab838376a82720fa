package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
)

// roundTripper answers without a network, because synctest needs a program without one.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// response is an answer to a round tripper.
func response(status int, header map[string]string, body []byte) *http.Response {
	h := make(http.Header)
	for k, v := range header {
		h.Set(k, v)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(body))}
}

func TestRetryAfterIsObeyedAndBounded(t *testing.T) {
	for _, c := range []struct {
		header    string
		low, high time.Duration // the wait
	}{
		{"1", time.Second, 2 * time.Second},
		{"7", 7 * time.Second, 7*time.Second + 3500*time.Millisecond},
		{"120", 30 * time.Second, 45 * time.Second},
		{"Sat, 01 Jan 2000 00:00:05 GMT", 5 * time.Second, 7500 * time.Millisecond}, // a synctest bubble begins in 2000
		{"Fri, 31 Dec 1999 00:00:00 GMT", 0, time.Millisecond},
		{"soon", 0, time.Millisecond},
		{"-5", 0, time.Millisecond},
		{"", 0, time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, n := time.Now(), 0
			var waited time.Duration
			client := mustNew(t, []string{"http://a", "http://b"}, func(cfg *Config) {
				cfg.Backoff.RetryAfterMax = 30 * time.Second
				cfg.HTTPClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
					if n++; n == 1 {
						return response(503, map[string]string{"Retry-After": c.header}, nil), nil
					}
					waited = time.Since(began)
					return response(400, map[string]string{"Content-Type": "application/problem+json"}, []byte(`{"code":"invalid"}`)), nil
				})}
			})
			if _, err := client.Punch(context.Background(), request()); !IsFinal(err) {
				t.Fatal(describe(err))
			}
			if waited < c.low || waited > c.high {
				t.Errorf("Retry-After %q: the next attempt came after %s, want %s to %s", c.header, waited, c.low, c.high)
			}
		})
	}
}

func TestACallThatCannotWaitReturnsTheRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := mustNew(t, []string{"http://a"}, func(cfg *Config) {
			cfg.HTTPClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				return response(503, map[string]string{"Retry-After": "20"}, nil), nil
			})}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_, err := client.Punch(ctx, request())
		var e *Error
		if !errors.As(err, &e) || e.Final || e.RetryAfter < 20*time.Second || time.Since(began) != 0 {
			t.Errorf("after %s: %s, want a kept error at once that says 20s", time.Since(began), describe(err))
		}
	})
}

// TestAFailedEndpointIsTriedAgain checks that calls skip it during the cool-down and prefer it again afterwards.
func TestAFailedEndpointIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		broken := true
		client := mustNew(t, []string{"http://a", "http://b"}, func(cfg *Config) {
			cfg.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, r.URL.Host)
				if r.URL.Host == "a" && broken {
					return nil, errors.New("connection refused")
				}
				return response(400, map[string]string{"Content-Type": "application/problem+json"}, []byte(`{"code":"invalid"}`)), nil
			})}
		})
		punchOnce := func(want string) {
			t.Helper()
			asked = nil
			if _, err := client.Punch(context.Background(), request()); !IsFinal(err) {
				t.Fatal(describe(err))
			}
			got := ""
			for _, host := range asked {
				got += host
			}
			if got != want {
				t.Fatalf("asked %q, want %q", got, want)
			}
		}
		punchOnce("ab")
		punchOnce("b")
		time.Sleep(defaultCoolDown)
		punchOnce("ab")
		time.Sleep(2 * defaultCoolDown) // the second failure in a row
		broken = false
		punchOnce("a")
		punchOnce("a")
	})
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{
			Base:          time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "base")),
			Max:           time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "max")),
			RetryAfterMax: time.Minute,
		}
		c := &Client{cfg: Config{Backoff: b}}
		attempts := rapid.IntRange(1, 100).Draw(t, "attempts")
		after := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "retry after"))
		limit := b.Max
		for grown, n := b.Base, 1; grown < b.Max; grown, n = grown*2, n+1 {
			if n == attempts {
				limit = grown
				break
			}
		}
		wait := c.wait(attempts, &Error{RetryAfter: after})
		low := min(after, b.RetryAfterMax)
		if low > 0 {
			limit = max(limit, low/2, time.Second)
		}
		if wait < low || wait > low+limit {
			t.Fatalf("attempt %d waits %s, want %s to %s", attempts, wait, low, low+limit)
		}
	})
}

// TestPick has several endpoints. The endpoint that just failed must not be next. An endpoint in its cool-down may be next
// only if all others are in theirs.
func TestPick(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "endpoints")
		now := time.Unix(1000, 0)
		r := newEndpoints(make([]string, n))
		for i := range n {
			r.skip(i, now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "cool-down"))*time.Second))
		}
		last := rapid.IntRange(none, n-1).Draw(t, "last")
		got := r.pick(last, nil, now)
		if n > 1 && got == last {
			t.Fatalf("the endpoint that just failed is next: %d", got)
		}
		for i := range n {
			healthy := i != last && !now.Before(r.until[i])
			if healthy && i != got && (i < got || now.Before(r.until[got])) {
				t.Fatalf("%d is next although %d is healthy and preferred: %v", got, i, r.until)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(201, "application/json", "", []byte(`{"id":"01890a5d-ac96-774b-bcce-b302099a8057","employee":"e1","home_region":"x",`+
		`"utc_offset":"+02:00","marks":["late"],"recorded_at":"2026-11-02T08:30:00Z"}`))
	f.Add(409, "application/problem+json", "1", []byte(`{"code":"conflict","final":true}`))
	f.Add(503, "application/problem+json", "Fri, 31 Dec 1999 23:59:59 GMT", []byte(`{"code":"overloaded"}`))
	f.Add(200, "text/html", "99999999999999999999", []byte("<html>"))
	r := Request{ID: punch.IDAt(time.UnixMilli(1688000000000)), Employee: "e1", Kind: punch.In}
	f.Fuzz(func(t *testing.T, status int, contentType, after string, body []byte) {
		header := http.Header{"Content-Type": {contentType}, "Retry-After": {after}}
		if e := refusal(status, header, body, time.Unix(0, 0)); e.Code == "" || e.RetryAfter < 0 || e.Final && (status < 400 || status > 499) {
			t.Fatalf("status %d, %q: %+v", status, body, e)
		}
		receipt, err := answer{status: status, body: body}.receiptFor(r.Employee, r.ID)
		if err == nil && (receipt.ID != r.ID || receipt.Employee != r.Employee || receipt.RecordedAt.IsZero()) {
			t.Fatalf("%q passed as a receipt of %+v", body, r)
		}
		if err != nil && err.Final {
			t.Fatalf("%q: an answer without a receipt must not be final: %v", body, err)
		}
	})
}
