package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
)

// TestBucket compares the bucket with its definition. The reserve, the calls and the time bound the retries. A retry is
// refused only if its token comes too late.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Budget{
			Ratio: rapid.Float64Range(0, 1).Draw(t, "ratio"), Reserve: rapid.Float64Range(1, 10).Draw(t, "reserve"),
			Every: time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Minute)).Draw(t, "every")),
		}
		b, now := newBucket(cfg), time.Unix(1000, 0)
		began, calls := now, 0
		var retries []time.Time
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "pause")))
			if rapid.Bool().Draw(t, "call") {
				b.call(now)
				calls++
				continue
			}
			least := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "wait"))
			left := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "left"))
			wait, ok := b.retry(now, least, left)
			if wait < least || ok != (wait < left) {
				t.Fatalf("retry waits %s, %t, want %s or more and less than %s", wait, ok, least, left)
			}
			if ok {
				retries = append(retries, now.Add(wait))
			}
		}
		for _, end := range retries {
			n := 0
			for _, at := range retries {
				if !at.After(end) {
					n++
				}
			}
			bound := cfg.Reserve + cfg.Ratio*float64(calls) + float64(end.Sub(began))/float64(cfg.Every)
			if float64(n) > bound+1e-3 {
				t.Fatalf("%d retries within %s, the bound is %g", n, end.Sub(began), bound)
			}
		}
	})
}

// TestAFleetDoesNotAmplify has many devices against a service that refuses every request in one way. Each person presses
// once, and some press again later. The requests beyond the presses are bounded, and no punch is lost.
func TestAFleetDoesNotAmplify(t *testing.T) {
	overloaded := func() (*http.Response, error) {
		return response(503, map[string]string{"Content-Type": "application/problem+json", "Retry-After": "3"}, []byte(`{"code":"overloaded"}`)), nil
	}
	answers := []func() (*http.Response, error){
		overloaded,
		func() (*http.Response, error) { return response(503, nil, nil), nil },
		func() (*http.Response, error) { return nil, syscall.ECONNRESET },
		func() (*http.Response, error) { return response(503, map[string]string{"Retry-After": "0"}, nil), nil },
	}
	rapid.Check(t, func(rt *rapid.T) {
		devices := rapid.IntRange(1, 30).Draw(rt, "devices")
		presses := rapid.IntRange(1, 20).Draw(rt, "presses of each")
		every := time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "pause"))
		answer := answers[rapid.IntRange(0, len(answers)-1).Draw(rt, "answer")]
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var requests, kept atomic.Int64
			var all sync.WaitGroup
			for range devices {
				all.Go(func() {
					c := mustDefault(t, []string{"http://a", "http://b", "http://c"}, func(*http.Request) (*http.Response, error) {
						requests.Add(1)
						return answer()
					})
					for range presses {
						_, err := c.Punch(context.Background(), request())
						if e, ok := errors.AsType[*Error](err); ok && !e.Final && e.RetryAfter > 0 {
							kept.Add(1)
						}
						time.Sleep(every)
					}
				})
			}
			all.Wait()
			first := devices * presses
			perDevice := defaultBudgetReserve + time.Since(began).Seconds()/defaultBudgetEvery.Seconds()
			if bound := defaultBudgetRatio*float64(first) + float64(devices)*perDevice; float64(int(requests.Load())-first) > bound {
				rt.Errorf("%d requests for %d presses, want at most %g retries in %s", requests.Load(), first, bound, time.Since(began))
			}
			if int(kept.Load()) != first {
				rt.Errorf("%d of %d punches were kept with a time for the next attempt", kept.Load(), first)
			}
		})
	})
}

// mustDefault makes a client with all defaults.
func mustDefault(t *testing.T, urls []string, answer roundTripper) *Client {
	t.Helper()
	c, err := New(Config{Endpoints: urls, Token: StaticToken("secret"), HTTPClient: &http.Client{Transport: answer}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestALonelyDeviceRetriesSlowly has one device with one punch. It must go on trying, and get its receipt.
func TestALonelyDeviceRetriesSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), 0
		c := mustDefault(t, []string{"http://a"}, func(r *http.Request) (*http.Response, error) {
			asked++
			if time.Since(began) < 3*time.Minute {
				return nil, syscall.ECONNREFUSED
			}
			return response(400, map[string]string{"Content-Type": "application/problem+json"}, []byte(`{"code":"invalid"}`)), nil
		})
		o := mustOutbox(t, OutboxConfig{})
		mustPut(t, o, request())
		ctx, stop := context.WithCancel(t.Context())
		o.Run(ctx, c, func(f Flushed, _ error) {
			if len(f.Refused) == 1 { // an answer, which settles the punch
				stop()
			}
		})
		took := time.Since(began)
		if took > 3*time.Minute+2*flushEveryMost {
			t.Errorf("the answer came after %s", took)
		}
		if most := 5 + 2*took.Minutes()*4 + 10; float64(asked) > most {
			t.Errorf("%d requests in %s, want at most %.0f", asked, took, most)
		}
	})
}

// TestAFullRegionIsNotAskedAround checks that the other endpoints of a full region rest as well. Another region may have
// room. An endpoint that reset the connection rests alone.
func TestAFullRegionIsNotAskedAround(t *testing.T) {
	for name, c := range map[string]struct {
		answer func() (*http.Response, error)
		want   string // hosts asked by two calls, one after the other, without time between them
	}{
		"overloaded": {func() (*http.Response, error) {
			return response(503, map[string]string{"Content-Type": "application/problem+json", "Retry-After": "30"}, []byte(`{"code":"overloaded"}`)), nil
		}, "ac"},
		"unavailable": {func() (*http.Response, error) {
			return response(503, map[string]string{"Content-Type": "application/problem+json", "Retry-After": "30"}, []byte(`{"code":"unavailable"}`)), nil
		}, "ab"},
		"rate limited": {func() (*http.Response, error) {
			return response(429, map[string]string{"Content-Type": "application/problem+json", "Retry-After": "30"}, []byte(`{"code":"rate_limited"}`)), nil
		}, "aa"},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := ""
			client := mustDefault(t, []string{"http://a", "http://b", "http://c"}, func(r *http.Request) (*http.Response, error) {
				asked += r.URL.Host
				return c.answer()
			})
			client.endpoints.Store(client.endpoints.Load().with([]string{"http://a", "http://b", "http://c"}, []Region{
				{Name: "eu-west", Endpoints: []string{"http://a", "http://b/"}}, {Name: "us-east", Endpoints: []string{"http://c"}},
			}))
			for range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than the Retry-After
				_, err := client.Punch(ctx, request())
				cancel()
				if e, ok := errors.AsType[*Error](err); !ok || e.Final || e.RetryAfter < 30*time.Second {
					t.Fatalf("%s: %s, want a kept punch and the Retry-After", name, describe(err))
				}
			}
			if asked != c.want {
				t.Errorf("%s: asked %q, want %q", name, asked, c.want)
			}
			time.Sleep(restMax)
			asked = ""
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := client.Punch(ctx, request()); err == nil || asked != "a" {
				t.Errorf("%s: asked %q after the rest, %v", name, asked, err)
			}
		})
	}
}

// TestFailedEndpointsRestLonger has a first endpoint that resets every connection. Each failure in a row must rest longer,
// within bounds, and a success ends that.
func TestFailedEndpointsRestLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoints([]string{"a", "b"})
		for failure := range 6 {
			now := time.Now()
			e.failed(0, now, defaultCoolDown)
			longest := min(defaultCoolDown<<failure, restMax)
			if rest := e.until[0].Sub(now); rest < longest/2 || rest > longest {
				t.Errorf("failure %d rests %s, want %s to %s", failure, rest, longest/2, longest)
			}
		}
		e.worked(0)
		now := time.Now()
		if got := e.pick(none, nil, now); got != 0 {
			t.Errorf("picked %d after a success", got)
		}
		e.failed(0, now, defaultCoolDown)
		if rest := e.until[0].Sub(now); rest > defaultCoolDown {
			t.Errorf("the first failure after a success rests %s", rest)
		}
	})
}

// TestDevicesComeBackSpread has a thousand devices that got the same Retry-After. They must not return in one second.
func TestDevicesComeBackSpread(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		c := mustDefault(t, []string{"http://a"}, nil)
		perSecond := make(map[int]int)
		for range 1000 {
			wait := c.wait(1, &Error{Code: punch.Overloaded, RetryAfter: after})
			if wait < after {
				t.Fatalf("waits %s of %s", wait, after)
			}
			perSecond[int(wait/time.Second)]++
		}
		if want := max(1, int(after/time.Second)/2); len(perSecond) < want {
			t.Errorf("after %s all come back within %d seconds, want %d", after, len(perSecond), want)
		}
	}
}
