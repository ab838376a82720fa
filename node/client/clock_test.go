package client

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// TestIDsAfterTheClockWasSetBack sets the clock back by two hours. A punch without `at` must then carry the present hour:
// the service takes it from the id. A monotonic generator would go on two hours ahead.
func TestIDsAfterTheClockWasSetBack(t *testing.T) {
	var sent []time.Time
	send := func(t *testing.T) {
		c := mustNew(t, []string{"http://a"}, func(cfg *Config) {
			cfg.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				var one struct{ ID string }
				var many struct{ Punches []struct{ ID string } }
				var err error
				if strings.HasSuffix(r.URL.Path, "/batch") {
					err = json.UnmarshalRead(r.Body, &many, json.MatchCaseInsensitiveNames(true))
					one = many.Punches[0]
				} else {
					err = json.UnmarshalRead(r.Body, &one, json.MatchCaseInsensitiveNames(true))
				}
				if err != nil {
					return nil, err
				}
				id, err := punch.ParseID(one.ID)
				sent = append(sent, id.Time())
				return response(400, map[string]string{"Content-Type": "application/problem+json"}, []byte(`{"code":"invalid"}`)), err
			})}
		})
		r := Request{Employee: "anna", Kind: punch.In}
		if _, err := c.Punch(t.Context(), r); !IsFinal(err) {
			t.Fatal(describe(err))
		}
		if _, err := c.PunchBatch(t.Context(), []Request{r}); err != nil {
			t.Fatal(err)
		}
		if _, err := mustOutbox(t, OutboxConfig{}).Punch(t.Context(), c, r); !IsFinal(err) {
			t.Fatal(describe(err))
		}
	}
	var started time.Time
	synctest.Test(t, func(t *testing.T) {
		started = time.Now()
		time.Sleep(2 * time.Hour)
		send(t)
	})
	before := len(sent)
	synctest.Test(t, func(t *testing.T) { send(t) }) // each bubble begins at the same time: two hours back
	if before < 3 || len(sent) != 2*before {
		t.Fatalf("%d requests were sent before and %d after", before, len(sent)-before)
	}
	for i, at := range sent[:before] {
		if at.Sub(started) != 2*time.Hour {
			t.Errorf("punch %d has the time %s, want two hours after %s", i, at, started)
		}
	}
	for i, at := range sent[before:] {
		if !at.Equal(started) {
			t.Errorf("punch %d after the clock was set back has the time %s, want %s", i, at, started)
		}
	}
}

func TestAnIDHasTheTimeOfItsPunch(t *testing.T) {
	at := time.Now().Add(-100 * time.Hour)
	if r := (Request{At: at}).WithID(); r.ID.Time().Sub(at).Abs() > time.Millisecond {
		t.Errorf("the id of a punch at %s has the time %s", at, r.ID.Time())
	}
	id := punch.NewID()
	if r := (Request{ID: id, At: at}).WithID(); r.ID != id {
		t.Errorf("the id %s became %s", id, r.ID)
	}
}

// behind is the clock of a node that is wrong by an hour. The node calls every correct device an hour ahead.
func behind() time.Time { return time.Now().Add(-time.Hour) }

// TestANodeWithAWrongClockFoolsNobody sends to a node whose clock is an hour behind and to a second, correct node.
func TestANodeWithAWrongClockFoolsNobody(t *testing.T) {
	store, ctx := clienttest.NewService(), background(t)
	urls := []string{store.MustServe(t, "us-east-n1", behind), store.MustServe(t, "us-east-n2", time.Now)}
	c := mustNew(t, urls)
	receipt, err := c.Punch(ctx, Request{Employee: "anna", Kind: punch.In})
	if err != nil || receipt.Node != "us-east-n2" || receipt.Attempts != 2 {
		t.Fatalf("receipt %+v, %s; want one from the correct node", receipt, describe(err))
	}
	if receipt, err = c.Punch(ctx, Request{Employee: "anna", Kind: punch.Out}); err != nil || receipt.Attempts != 1 {
		t.Errorf("the next punch took %d attempts, %v; want 1: the client skips the wrong node for a while", receipt.Attempts, err)
	}
	for _, o := range mustBatch(t, mustNew(t, urls), batchOf("e0", "e1")...) {
		if o.Err != nil || o.Receipt.Node != "us-east-n2" {
			t.Errorf("a batch: %+v, want a receipt from the correct node", o)
		}
	}
}

func mustBatch(t *testing.T, c *Client, requests ...Request) []Outcome {
	t.Helper()
	outcomes, err := c.PunchBatch(background(t), requests)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// TestClockAheadNeedsASecondNode covers who must say clock_ahead until a device may believe it.
func TestClockAheadNeedsASecondNode(t *testing.T) {
	const short, long = "60", "3600"
	says := func(node, retryAfter string) answerFunc {
		return func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
			if r.URL.Path == "/v1/regions" {
				page(503)(w, r, body, n)
				return
			}
			w.Header().Set(nodeHeader, node)
			if !strings.HasSuffix(r.URL.Path, "/batch") {
				problem(422, punch.ClockAhead, retryAfter)(w, r, body, n)
				return
			}
			results(func(stdjson.RawMessage) map[string]any {
				item := refused(422, punch.ClockAhead)
				item["problem"].(map[string]any)["retry_after"] = map[string]int{short: 60, long: 3600}[retryAfter]
				return item
			})(w, r, body, n)
		}
	}
	for _, c := range []struct {
		name             string
		answers          []answerFunc
		confirmed, final bool
		requests         int // punches, the look-up of other endpoints not counted
	}{
		{"two nodes, a minute", []answerFunc{says("a", short), says("b", short)}, true, false, 2},
		{"two nodes, an hour", []answerFunc{says("a", long), says("b", long)}, true, true, 2},
		{"two nodes that differ: the smaller value counts", []answerFunc{says("a", long), says("b", short)}, true, false, 2},
		{"one node", []answerFunc{says("a", long)}, false, false, minClockAnswers},
		{"one node behind two endpoints", []answerFunc{says("a", long), says("a", long)}, false, false, minClockAnswers},
		{"nodes without a name", []answerFunc{says("", long), says("", long)}, true, true, 2},
		{"two nodes behind one endpoint", []answerFunc{first(says("a", long), says("b", long))}, true, true, 2},
		{"the second endpoint is down", []answerFunc{says("a", long), page(503)}, false, false, -1},
	} {
		for _, batch := range []bool{false, true} {
			urls, arrived := servers(t, c.answers...)
			client := mustNew(t, urls)
			var err error
			if batch {
				err = mustBatch(t, client, request())[0].Err
			} else {
				_, err = client.Punch(background(t), request())
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != punch.ClockAhead || e.Confirmed != c.confirmed || e.Final != c.final {
				t.Errorf("%s, batch %v: %s; want confirmed %v, final %v", c.name, batch, describe(err), c.confirmed, c.final)
			}
			sent := 0
			for _, r := range arrived() {
				if strings.HasPrefix(r.path, "POST") {
					sent++
				}
			}
			if c.requests >= 0 && sent != c.requests {
				t.Errorf("%s, batch %v: %d requests, want %d", c.name, batch, sent, c.requests)
			}
		}
	}
}

// TestASingleEndpointNamesTheSecondNode sends through one endpoint, whose node has a wrong clock and knows another node.
func TestASingleEndpointNamesTheSecondNode(t *testing.T) {
	store := clienttest.NewService()
	right := store.MustServe(t, "eu-west-n1", time.Now)
	urls, _ := servers(t, func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		if r.URL.Path == "/v1/regions" {
			writeJSON(w, "application/json", 200, map[string]any{"regions": []any{
				map[string]any{"name": "eu-west", "state": "ready", "endpoints": []string{right}},
			}})
			return
		}
		w.Header().Set(nodeHeader, "us-east-n1")
		problem(422, punch.ClockAhead, "3600")(w, r, body, n)
	})
	receipt, err := mustNew(t, urls).Punch(background(t), Request{Employee: "anna", Kind: punch.In})
	if err != nil || receipt.Node != "eu-west-n1" {
		t.Errorf("receipt %+v, %s; want one from the other region", receipt, describe(err))
	}
}

// TestATerminalIn2063 has a device whose clock is 37 years ahead, and one whose clock is right, in one outbox.
func TestATerminalIn2063(t *testing.T) {
	store, ctx := clienttest.NewService(), background(t)
	var mu sync.Mutex // guards requests
	requests := 0
	count := func(name string) string {
		api := store.MustHandler(t, name, time.Now)
		urls, _ := servers(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
			mu.Lock()
			requests++
			mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(body)) // the server has read the other one
			api.ServeHTTP(w, r)
		})
		return urls[0]
	}
	c, o := mustNew(t, []string{count("a"), count("b")}), mustOutbox(t, OutboxConfig{MaxItems: 5})
	in2063 := time.Date(2063, 4, 5, 8, 31, 0, 0, time.UTC)
	far := Request{ID: punch.IDAt(in2063), Employee: "anna", Kind: punch.In, Note: "late bus"}
	near := Request{ID: punch.IDAt(time.Now().Add(5 * time.Minute)), Employee: "anna", Kind: punch.Out}
	good := Request{ID: punch.NewID(), Employee: "anna", Kind: punch.In}
	mustPut(t, o, far, near, good)
	done, err := o.Flush(ctx, c)
	if err != nil || len(done.Receipts) != 1 || len(done.Refused) != 1 || done.Refused[0].ID != far.ID || done.Kept != 1 {
		t.Fatalf("%+v, %v; want a receipt, one punch in quarantine, one that waits", done, err)
	}
	sent := requests
	if done, err = o.Flush(ctx, c); err != nil || done.Kept != 1 || requests != sent {
		t.Errorf("%+v, %v after %d more requests; want none until the punch is due", done, err, requests-sent)
	}
	list, err := o.Quarantined(ctx)
	if err != nil || len(list) != 1 || list[0].Refusal.Code != punch.ClockAhead || !list[0].Time().Equal(in2063) {
		t.Fatalf("the quarantine is %+v, %v", list, err)
	}
	// A person says when it was.
	really := time.Now().Add(-26 * time.Hour)
	corrected, err := o.Correct(ctx, far.ID, really)
	if err != nil || corrected.ID == far.ID || corrected.Corrects != far.ID || corrected.Note != far.Note ||
		corrected.ID.Time().Sub(really).Abs() > time.Millisecond {
		t.Fatalf("corrected: %+v, %v", corrected, err)
	}
	if again, err := o.Correct(ctx, far.ID, really); err != nil || again.ID != corrected.ID {
		t.Errorf("the same correction again: %+v, %v", again, err)
	}
	if _, err := o.Correct(ctx, far.ID, really.Add(time.Second)); !errors.Is(err, ErrCorrected) {
		t.Errorf("another correction: %v", err)
	}
	if err := o.Release(ctx, far.ID); !errors.Is(err, ErrCorrected) {
		t.Errorf("a corrected punch is released: %v", err)
	}
	done, err = o.Flush(ctx, c)
	if err != nil || len(done.Receipts) != 1 || !done.Receipts[0].PunchedAt.Equal(punch.Microseconds(really)) {
		t.Errorf("%+v, %v; want the receipt of %s", done, err, really)
	}
	list, err = o.Quarantined(ctx)
	if err != nil || len(list) != 1 || list[0].Correction == nil || list[0].Correction.ID != corrected.ID.String() {
		t.Errorf("the evidence is %+v, %v", list, err)
	}
	// The bound holds, its name is in the refusal, and a correction is possible all the same.
	var full error
	for day := range 4 {
		full = o.Put(ctx, Request{ID: punch.IDAt(in2063.AddDate(0, 0, day)), Employee: "anna", Kind: punch.In})
	}
	if !errors.Is(full, ErrOutboxFull) || !strings.Contains(full.Error(), "the bound is 5 punches") {
		t.Errorf("the sixth punch: %v", full)
	}
	if k, err := o.Discard(ctx, far.ID); err != nil || k.Correction == nil {
		t.Errorf("the evidence is discarded: %+v, %v", k, err)
	}
	if _, err := o.Correct(ctx, punch.NewID(), really); !errors.Is(err, ErrNotInQuarantine) {
		t.Errorf("an unknown id: %v", err)
	}
}

// TestFlushLeavesOutPunchesThatOneNodeCallsAhead has no second node. The punches of a device with a wrong clock wait, and
// must not be sent at every flush. They must not stop the punches behind them either.
func TestFlushLeavesOutPunchesThatOneNodeCallsAhead(t *testing.T) {
	ctx, o := background(t), mustOutbox(t, OutboxConfig{Batch: 1, Concurrency: 1})
	api := clienttest.NewService().MustHandler(t, "us-east-n1", time.Now)
	urls, arrived := servers(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		if r.Method == http.MethodGet {
			page(http.StatusServiceUnavailable)(w, r, body, 1) // the node knows no other
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body)) // the endpoint has read the other one
		api.ServeHTTP(w, r)
	})
	c := mustNew(t, urls)
	for i := range 3 {
		mustPut(t, o, Request{ID: punch.IDAt(time.Now().Add(time.Duration(i+1) * time.Hour)), Employee: "anna", Kind: punch.In})
	}
	if done, err := o.Flush(ctx, c); err != nil || done.Kept != 3 || done.Last == nil || done.Last.Confirmed {
		t.Fatalf("%+v, %v; want three punches that wait", done, err)
	}
	sent := len(arrived())
	mustPut(t, o, Request{ID: punch.NewID(), Employee: "anna", Kind: punch.In})
	if done, err := o.Flush(ctx, c); err != nil || done.Kept != 3 || len(done.Receipts) != 1 || len(arrived()) != sent+1 {
		t.Errorf("%+v, %v after %d requests; want the receipt of the new punch after one", done, err, len(arrived())-sent)
	}
}

// TestPunchesOfAClockThatWasSet has punches that still wait when a person sets the clock, because no second node answered.
func TestPunchesOfAClockThatWasSet(t *testing.T) {
	ctx, o := context.Background(), mustOutbox(t, OutboxConfig{})
	far := Request{ID: punch.IDAt(time.Now().AddDate(37, 0, 0)), Employee: "anna", Kind: punch.In}
	other := Request{ID: punch.IDAt(time.Now().AddDate(37, 0, 1)), Employee: "anna", Kind: punch.In}
	present := Request{ID: punch.NewID(), Employee: "anna", Kind: punch.In}
	mustPut(t, o, far, other, present)
	if _, err := o.Correct(ctx, present.ID, time.Now()); !errors.Is(err, ErrNotInQuarantine) {
		t.Errorf("a punch that may be recorded is corrected: %v", err)
	}
	if _, err := o.Discard(ctx, present.ID); !errors.Is(err, ErrNotInQuarantine) {
		t.Errorf("a punch that may be recorded is discarded: %v", err)
	}
	if _, err := o.Correct(ctx, far.ID, time.Now()); err != nil {
		t.Error(err)
	}
	mustLen(t, o, 3, 1)
	if k, err := o.Discard(ctx, other.ID); err != nil || k.Refusal == nil || k.Refusal.Code != punch.ClockAhead {
		t.Errorf("discarded: %+v, %v", k, err)
	}
	mustLen(t, o, 2, 1)
}

// TestANodeWithAWrongClockRefusesAGoodToken asks a node that takes every token for expired. The punch must reach another
// node, and a token that two nodes refuse must not be tried further.
func TestANodeWithAWrongClockRefusesAGoodToken(t *testing.T) {
	expired := problem(401, punch.Unauthenticated, "")
	urls, arrived := servers(t, expired, recorded)
	receipt, err := mustNew(t, urls).Punch(background(t), request())
	if err != nil || receipt.Attempts != 2 || path(arrived()) != "ab" {
		t.Errorf("%v after %q in %d attempts, want a receipt of the second endpoint", err, path(arrived()), receipt.Attempts)
	}
	urls, arrived = servers(t, expired, expired, recorded)
	_, err = mustNew(t, urls).Punch(background(t), request())
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != punch.Unauthenticated || e.Final || path(arrived()) != "ab" {
		t.Errorf("%v after %q, want unauthenticated after two endpoints", err, path(arrived()))
	}
}
