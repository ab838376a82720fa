package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

func TestFlushSendsTheOldestFirstInBatches(t *testing.T) {
	urls, arrived := servers(t, results(byEmployee))
	c, o := mustNew(t, urls), mustOutbox(t, OutboxConfig{Batch: 3, Concurrency: 1, Receipts: true})
	requests := batchOf("e0", "e1", "invalid", "e3", "ahead", "e5", "e6")
	for _, i := range []int{4, 0, 6, 2, 1, 5, 3} {
		mustPut(t, o, requests[i])
	}
	done, err := o.Flush(background(t), c)
	if err != nil || len(done.Receipts) != 5 || len(done.Refused) != 1 || done.Kept != 1 ||
		done.Last == nil || done.Last.Code != punch.ClockAhead {
		t.Fatalf("%+v, %v", done, err)
	}
	var order []string
	for _, r := range arrived() {
		if strings.HasPrefix(r.path, "GET") {
			continue // the look-up of a second node for "ahead"
		}
		var sent struct{ Punches []struct{ Employee string } }
		if err := json.Unmarshal([]byte(r.body), &sent, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
		if len(sent.Punches) > 3 {
			t.Errorf("a batch of %d, want at most 3", len(sent.Punches))
		}
		for _, p := range sent.Punches {
			if !slices.Contains(order, p.Employee) { // "ahead" is sent again, to find a second node
				order = append(order, p.Employee)
			}
		}
	}
	if want := []string{"e0", "e1", "invalid", "e3", "ahead", "e5", "e6"}; !slices.Equal(order, want) {
		t.Errorf("sent %q, want %q", order, want)
	}
	mustLen(t, o, 1, 1)
	// A person releases the refused punch. It is sent again and refused again.
	refused := done.Refused[0].ID
	if err := o.Release(background(t), refused); err != nil {
		t.Fatal(err)
	}
	mustLen(t, o, 2, 0)
	if _, err := o.Flush(background(t), c); err != nil {
		t.Fatal(err)
	}
	mustLen(t, o, 1, 1)
	if k, err := o.Discard(background(t), refused); err != nil || k.Employee != "invalid" || k.Refusal == nil {
		t.Errorf("discarded %+v, %v", k, err)
	}
	mustLen(t, o, 1, 0)
	if err := o.Release(background(t), refused); !errors.Is(err, ErrNotInQuarantine) {
		t.Errorf("a discarded punch is released: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(o.cfg.Dir, receiptsFile))
	if lines := strings.Count(string(text), "\n"); err != nil || lines != 5 || !strings.Contains(string(text), `"utc_offset":"+01:00"`) {
		t.Errorf("%d receipts were kept, %v:\n%s", lines, err, text)
	}
}

// TestFlushEndsWithTheService checks that a flush does not try the other batches, and returns the Retry-After.
func TestFlushEndsWithTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := mustNew(t, []string{"http://a"}, func(cfg *Config) {
			cfg.TotalTimeout = 30 * time.Second
			cfg.HTTPClient = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				asked++
				return response(503, map[string]string{"Retry-After": "20"}, nil), nil
			})}
		})
		o := mustOutbox(t, OutboxConfig{Batch: 1, Concurrency: 1})
		mustPut(t, o, batchOf("e0", "e1", "e2", "e3")...)
		began := time.Now()
		done, err := o.Flush(background(t), c)
		if err != nil || done.Kept != 4 || asked != 2 || done.RetryAfter < 20*time.Second || time.Since(began) < 20*time.Second {
			t.Errorf("after %s: %+v, %v; asked %d times, want twice, 20 s apart", time.Since(began), done, err, asked)
		}
		mustLen(t, o, 4, 0)
	})
}

func TestRunFlushesUntilAllIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		var asked []time.Duration
		c := mustNew(t, []string{"http://a"}, func(cfg *Config) {
			cfg.TotalTimeout = time.Second
			cfg.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if asked = append(asked, time.Since(began)); len(asked) < 3 {
					return response(503, map[string]string{"Retry-After": "40"}, nil), nil
				}
				return response(400, map[string]string{"Content-Type": "application/problem+json"}, []byte(`{"code":"invalid"}`)), nil
			})}
		})
		o := mustOutbox(t, OutboxConfig{})
		mustPut(t, o, request())
		o.Run(ctx, c, func(f Flushed, err error) {
			if err != nil {
				t.Error(err)
			}
			if len(f.Refused) == 1 {
				stop()
			}
		})
		mustLen(t, o, 0, 1)
		for i := 1; i < 3; i++ {
			// The client obeys 30 s of the Retry-After. Run waits the time that the client had no time for.
			if wait := asked[i] - asked[i-1]; wait < 30*time.Second || wait > 70*time.Second {
				t.Errorf("asked after %s, want 30 s or more in between, and jitter", asked)
			}
		}
	})
}

// TestSeveralOutboxesShareAFolder works as several processes do, each with an Outbox of its own.
func TestSeveralOutboxesShareAFolder(t *testing.T) {
	url, dir := clienttest.NewService().MustServe(t, "us-east-n1", time.Now), t.TempDir()
	c, ctx := mustNew(t, []string{url}), background(t)
	const users, each = 4, 15
	var ids []punch.ID
	var mu sync.Mutex // guards ids
	var all sync.WaitGroup
	for user := range users {
		o := mustOutbox(t, OutboxConfig{Dir: dir, Batch: 10})
		all.Go(func() {
			for i := range each {
				r := Request{ID: punch.NewID(), Employee: "e1", Kind: punch.Auto, Note: fmt.Sprint(user)}
				var err error
				if i%2 == 0 {
					_, err = o.Punch(ctx, c, r)
				} else if err = o.Put(ctx, r); err == nil {
					_, err = o.Flush(ctx, c)
				}
				if err != nil && !errors.Is(err, ErrFlushing) {
					t.Error(err)
				}
				mu.Lock()
				ids = append(ids, r.ID)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	o := mustOutbox(t, OutboxConfig{Dir: dir})
	if _, err := o.Flush(ctx, c); err != nil {
		t.Fatal(err)
	}
	mustLen(t, o, 0, 0)
	list, err := c.List(ctx, "e1", time.Now().Add(-time.Hour), time.Time{})
	if err != nil || len(list) != users*each || len(ids) != users*each {
		t.Errorf("%d punches were made, %d are recorded, %v", len(ids), len(list), err)
	}
}

// TestPunchesAreKeptDuringAFlush checks that a flush which waits for the service delays no Put. A second flush must not
// send the same punches.
func TestPunchesAreKeptDuringAFlush(t *testing.T) {
	arrived, proceed := make(chan struct{}), make(chan struct{})
	urls, _ := servers(t, func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		close(arrived)
		<-proceed
		results(good)(w, r, body, n)
	})
	c, o := mustNew(t, urls), mustOutbox(t, OutboxConfig{})
	mustPut(t, o, request())
	var done Flushed
	var err error
	var flush sync.WaitGroup
	flush.Go(func() { done, err = o.Flush(background(t), c) })
	<-arrived
	other := mustOutbox(t, OutboxConfig{Dir: o.cfg.Dir})
	mustPut(t, other, request())
	if _, err := other.Flush(background(t), c); !errors.Is(err, ErrFlushing) {
		t.Errorf("a second flush: %v", err)
	}
	close(proceed)
	flush.Wait()
	if err != nil || len(done.Receipts) != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	mustLen(t, o, 1, 0)
}
