package client

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// TestTroublesOfTheRealAPI plays each trouble on the real API. The punch waits in the outbox meanwhile, and is recorded
// afterwards.
func TestTroublesOfTheRealAPI(t *testing.T) {
	for name, c := range map[string]struct {
		trouble clienttest.Trouble
		code    punch.Code
		status  int
		after   time.Duration
	}{
		"overloaded":   {clienttest.Trouble{Refusal: punch.Retryable(punch.Overloaded, 20*time.Second, "full", nil)}, punch.Overloaded, 503, 20 * time.Second},
		"rate limited": {clienttest.Trouble{Refusal: punch.Retryable(punch.RateLimited, 3*time.Second, "slowly", nil)}, punch.RateLimited, 429, 3 * time.Second},
		"suspended":    {clienttest.Trouble{Refusal: punch.Retryable(punch.Suspended, 15*time.Minute, "suspended", nil)}, punch.Suspended, 503, 15 * time.Minute},
		"reset":        {clienttest.Trouble{Reset: true}, punch.Unavailable, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			service := clienttest.NewService()
			url := service.MustServe(t, "us-east-n1", time.Now)
			device := mustNew(t, []string{url}, func(cfg *Config) { cfg.TotalTimeout = time.Second })
			box, r := mustOutbox(t, OutboxConfig{}), request()
			r.At = time.Time{}
			service.Set(c.trouble)
			_, err := box.Punch(background(t), device, r)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Final || e.Code != c.code || e.Status != c.status || e.RetryAfter < c.after {
				t.Fatalf("%s, want a kept punch", describe(err))
			}
			mustLen(t, box, 1, 0)
			service.Set(clienttest.Trouble{})
			if done, err := box.Flush(background(t), device); err != nil || len(done.Receipts) != 1 || !service.Recorded("e1", r.ID) {
				t.Fatalf("%+v, %v", done, err)
			}
			mustLen(t, box, 0, 0)
		})
	}
}

// TestUploadsWaitForTheirSlot asks a device with stored punches to upload later. Its flush must wait that long. A person
// who punches meanwhile must not.
func TestUploadsWaitForTheirSlot(t *testing.T) {
	service := clienttest.NewService()
	url := service.MustServe(t, "us-east-n1", time.Now)
	device, box := mustNew(t, []string{url}), mustOutbox(t, OutboxConfig{Batch: 1, Concurrency: 1})
	stored := []Request{{ID: punch.NewID(), Employee: "e1", Kind: punch.In}, {ID: punch.NewID(), Employee: "e2", Kind: punch.In}}
	mustPut(t, box, stored...)
	service.Set(clienttest.Trouble{UploadAfter: time.Hour})
	now := Request{ID: punch.NewID(), Employee: "e3", Kind: punch.In}
	receipt, err := box.Punch(background(t), device, now)
	if err != nil || receipt.UploadAfter != time.Hour || !service.Recorded("e3", now.ID) {
		t.Fatalf("a person who punches now: %+v, %v", receipt, err)
	}
	done, err := box.Flush(background(t), device)
	if err != nil || done.Kept != 2 || done.RetryAfter <= 59*time.Minute || service.Recorded("e1", stored[0].ID) {
		t.Errorf("a flush before its slot: %+v, %v", done, err)
	}
	// A new process does not know the slot. It hears of it with its first batch.
	restarted := mustOutbox(t, OutboxConfig{Dir: box.cfg.Dir, Batch: 1, Concurrency: 1})
	if done, err = restarted.Flush(background(t), device); err != nil || done.Kept != 1 || done.RetryAfter <= 59*time.Minute {
		t.Errorf("a flush of a new process: %+v, %v", done, err)
	}
}

// TestRunUploadsInItsSlot runs an outbox with a clock that stands still unless all wait.
func TestRunUploadsInItsSlot(t *testing.T) {
	for name, c := range map[string]struct {
		header map[string]string
		status int
		least  time.Duration
		most   time.Duration
	}{
		"upload after": {map[string]string{"Punchclock-Upload-After": "600"}, 503, 600 * time.Second, 661 * time.Second},
		"suspended":    {map[string]string{"Retry-After": "900"}, 503, 900 * time.Second, 25 * time.Minute},
		"wrong header": {map[string]string{"Retry-After": "9999999"}, 503, 30 * time.Minute, 50 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			var asked []time.Time
			device := mustDefault(t, []string{"http://a"}, func(*http.Request) (*http.Response, error) {
				if asked = append(asked, time.Now()); len(asked) == 1 {
					header := map[string]string{"Content-Type": "application/problem+json", "Retry-After": "100"}
					maps.Copy(header, c.header)
					return response(c.status, header, []byte(`{"code":"overloaded"}`)), nil
				}
				return response(400, map[string]string{"Content-Type": "application/problem+json"}, []byte(`{"code":"invalid"}`)), nil
			})
			box := mustOutbox(t, OutboxConfig{})
			mustPut(t, box, request())
			ctx, stop := context.WithCancel(t.Context())
			box.Run(ctx, device, func(f Flushed, _ error) {
				if len(f.Refused) == 1 {
					stop()
				}
			})
			if wait := asked[1].Sub(asked[0]); wait < c.least || wait > c.most {
				t.Errorf("%s: asked again after %s, want %s to %s", name, wait, c.least, c.most)
			}
		})
	}
}

// TestARefusalKeepsTheConnection counts connections and TLS handshakes. A refused device must not pay for a new
// connection. A device that lost its connection must resume its session.
func TestARefusalKeepsTheConnection(t *testing.T) {
	service := clienttest.NewService()
	var mu sync.Mutex
	var resumed []bool               // by connection, in their order
	known := make(map[net.Conn]bool) // those in resumed
	protocols := make(map[string]bool)
	api := service.MustHandler(t, "us-east-n1", time.Now)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		protocols[r.Proto] = true
		mu.Unlock()
		api.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if secure, ok := c.(*tls.Conn); ok && state == http.StateActive {
			mu.Lock()
			defer mu.Unlock()
			if !known[c] { // an HTTP/2 connection becomes active with each request
				resumed = append(resumed, secure.ConnectionState().DidResume)
			}
			known[c] = true
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	device := mustNew(t, []string{server.URL}, func(cfg *Config) { cfg.TotalTimeout = 500 * time.Millisecond })
	device.transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	service.Set(clienttest.Trouble{Refusal: punch.Retryable(punch.Overloaded, time.Minute, "full", nil)})
	fresh := func() Request { return Request{Employee: "e1", Kind: punch.In} }
	for range 5 {
		if _, err := device.Punch(background(t), fresh()); IsFinal(err) || err == nil {
			t.Fatal(describe(err))
		}
	}
	mu.Lock()
	first := len(resumed)
	mu.Unlock()
	device.Close()
	if _, err := device.Punch(background(t), fresh()); err == nil {
		t.Fatal("recorded")
	}
	mu.Lock()
	defer mu.Unlock()
	if first != 1 || !protocols["HTTP/2.0"] || len(protocols) != 1 || len(resumed) != 2 || !resumed[1] {
		t.Errorf("%d connections at first, then %v (resumed or not), by %v; want one, and one that resumes, by HTTP/2", first, resumed, protocols)
	}
}
