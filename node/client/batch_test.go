package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// results answers a batch with the result of item for each punch.
func results(item func(punch json.RawMessage) map[string]any) answerFunc {
	return func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		if r.Method == http.MethodGet { // the look-up of other endpoints
			page(http.StatusServiceUnavailable)(w, r, body, n)
			return
		}
		var sent struct{ Punches []json.RawMessage }
		if err := json.Unmarshal(body, &sent); err != nil {
			panic(err)
		}
		all := []map[string]any{}
		for _, p := range sent.Punches {
			all = append(all, item(p))
		}
		if _, named := w.Header()[nodeHeader]; !named {
			w.Header().Set(nodeHeader, "eu-west-n1")
		}
		writeJSON(w, "application/json", http.StatusOK, map[string]any{"results": all})
	}
}

func good(p json.RawMessage) map[string]any {
	return map[string]any{"status": 201, "receipt": receiptBody(p)}
}

func refused(status int, code punch.Code) map[string]any {
	return map[string]any{"status": status, "problem": map[string]any{
		"code": code, "final": code.Final(), "field": "kind", "detail": "because", "trace_id": "t",
	}}
}

// byEmployee answers a punch as the name of its employee says.
func byEmployee(p json.RawMessage) map[string]any {
	switch text := string(p); {
	case strings.Contains(text, "busy"):
		return refused(503, punch.Overloaded)
	case strings.Contains(text, "invalid"):
		return refused(400, punch.Invalid)
	case strings.Contains(text, "ahead"):
		return refused(422, punch.ClockAhead)
	case strings.Contains(text, "nonsense"):
		return map[string]any{"status": 201}
	case strings.Contains(text, "swapped"):
		return map[string]any{"status": 201, "receipt": receiptBody([]byte(`{"id":"` + punch.NewID().String() + `","employee":"swapped"}`))}
	default:
		return good(p)
	}
}

// batchOf makes a punch for each employee. Each id is later than the one before it, so an outbox keeps their order.
func batchOf(employees ...string) (requests []Request) {
	now := time.Now()
	for i, e := range employees {
		at := now.Add(time.Duration(i-len(employees)) * time.Millisecond)
		requests = append(requests, Request{ID: punch.IDAt(at), Employee: e, Kind: punch.In})
	}
	return requests
}

func TestEachPunchOfABatchFailsAlone(t *testing.T) {
	urls, arrived := servers(t, results(byEmployee), results(good))
	requests := batchOf("e0", "busy", "invalid", "ahead", "nonsense", "swapped", "e6")
	requests = append(requests, Request{Employee: "e7", Kind: punch.In}, Request{Employee: "e8", Kind: punch.In, Note: "\xff"})
	got, err := mustNew(t, urls).PunchBatch(background(t), requests)
	if err != nil || len(got) != len(requests) {
		t.Fatalf("%d outcomes, %v", len(got), err)
	}
	for i, want := range []string{"1", "2", "final", "2", "2", "2", "1", "1", "final"} {
		o := got[i]
		var e *Error
		switch {
		case errors.As(o.Err, &e) && e.Final:
			if want != "final" || (requests[i].ID != punch.ID{} && e.ID != requests[i].ID) {
				t.Errorf("item %d: %s, want %s", i, describe(o.Err), want)
			}
		case o.Err != nil:
			t.Errorf("item %d: %s, want %s", i, describe(o.Err), want)
		case o.Receipt.Employee != requests[i].Employee || want != string(rune('0'+o.Receipt.Attempts)) || o.Receipt.Node == "":
			t.Errorf("item %d: %+v, want a receipt after %s attempts", i, o.Receipt, want)
		}
	}
	if got := arrived(); path(got) != "ab" || strings.Contains(got[1].body, `"e0"`) ||
		!strings.Contains(got[1].body, requests[1].ID.String()) {
		t.Errorf("the second attempt must have the open punches alone: %+v", got)
	}
}

func TestARefusedBatchIsSentOneByOne(t *testing.T) {
	urls, arrived := servers(t, func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/batch"):
			problem(413, punch.TooLarge, "")(w, r, body, n)
		case strings.Contains(string(body), "invalid"):
			problem(400, punch.Invalid, "")(w, r, body, n)
		default:
			recorded(w, r, body, n)
		}
	})
	got, err := mustNew(t, urls).PunchBatch(background(t), batchOf("e0", "invalid", "e2"))
	if err != nil || got[0].Err != nil || !IsFinal(got[1].Err) || got[2].Err != nil || len(arrived()) != 4 {
		t.Errorf("%v, %+v after %d requests", err, got, len(arrived()))
	}
}

func TestABatchTooLargeForAProxyIsSentOneByOne(t *testing.T) {
	urls, arrived := servers(t, func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		if strings.HasSuffix(r.URL.Path, "/batch") {
			http.Error(w, "<html>413</html>", http.StatusRequestEntityTooLarge)
			return
		}
		recorded(w, r, body, n)
	})
	got, err := mustNew(t, urls).PunchBatch(background(t), batchOf("e0", "e1"))
	if err != nil || got[0].Err != nil || got[1].Err != nil || len(arrived()) != 3 {
		t.Errorf("%v, %+v after %d requests", err, got, len(arrived()))
	}
}

func TestSendingOneByOneEndsWithTheService(t *testing.T) {
	urls, arrived := servers(t, func(w http.ResponseWriter, r *http.Request, body []byte, n int) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/batch"):
			problem(413, punch.TooLarge, "")(w, r, body, n)
		case strings.Contains(string(body), `"e0"`):
			recorded(w, r, body, n)
		default:
			problem(503, punch.Unavailable, "7")(w, r, body, n)
		}
	})
	c := mustNew(t, urls, func(cfg *Config) { cfg.TotalTimeout = time.Second })
	requests := batchOf("e0", "e1", "e2", "e3")
	got, err := c.PunchBatch(background(t), requests)
	if err != nil || got[0].Err != nil || len(arrived()) != 3 {
		t.Errorf("%v, %+v after %d requests, want the batch, e0 and e1", err, got, len(arrived()))
	}
	for i := 1; i < 4; i++ {
		var e *Error
		if !errors.As(got[i].Err, &e) || e.Final || e.ID != requests[i].ID || e.RetryAfter < 7*time.Second {
			t.Errorf("item %d: %s, want a kept error", i, describe(got[i].Err))
		}
	}
}

func TestABatchWithoutAnAnswerIsKept(t *testing.T) {
	urls, _ := servers(t, page(502))
	requests := batchOf("e0", "e1")
	c := mustNew(t, urls, func(cfg *Config) { cfg.TotalTimeout = 30 * time.Millisecond })
	got, err := c.PunchBatch(background(t), requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range got {
		var e *Error
		if !errors.As(o.Err, &e) || e.Final || e.ID != requests[i].ID || e.Attempts == 0 {
			t.Errorf("item %d: %s, want a kept error with its id", i, describe(o.Err))
		}
	}
}

func TestBatchesAreSplitByBytes(t *testing.T) {
	longest := 0
	urls, arrived := servers(t, results(good))
	requests := batchOf(make([]string, MaxBatch)...)
	for i := range requests {
		requests[i].Employee, requests[i].Note = "e", strings.Repeat("\x01", 300) // six bytes each in JSON
	}
	c := mustNew(t, urls)
	got, err := c.PunchBatch(background(t), requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range got {
		if o.Err != nil || o.Receipt.ID != requests[i].ID {
			t.Fatalf("item %d: %s", i, describe(o.Err))
		}
	}
	for _, r := range arrived() {
		longest = max(longest, len(r.body))
	}
	if longest > 1<<20 || len(arrived()) < 2 {
		t.Errorf("%d requests, the longest of %d bytes", len(arrived()), longest)
	}
	if _, err := c.PunchBatch(background(t), append(requests, request())); err == nil {
		t.Errorf("a batch of %d punches was accepted", MaxBatch+1)
	}
	if got, err := c.PunchBatch(background(t), nil); err != nil || len(got) != 0 {
		t.Errorf("an empty batch: %v, %v", got, err)
	}
}

func TestAnswersOfTheWrongLengthAreNoAnswers(t *testing.T) {
	for name, answer := range map[string]answerFunc{
		"too few":  raw(200, `{"results":[]}`),
		"too many": raw(200, `{"results":[{},{},{}]}`),
		"null":     raw(200, `null`),
		"no JSON":  page(200),
	} {
		urls, arrived := servers(t, answer, results(good))
		got, err := mustNew(t, urls).PunchBatch(background(t), batchOf("e0", "e1"))
		if err != nil || got[0].Err != nil || got[1].Err != nil || path(arrived()) != "ab" {
			t.Errorf("%s: %v %+v after %q, want receipts after ab", name, err, got, path(arrived()))
		}
	}
}

func FuzzBatchAnswer(f *testing.F) {
	f.Add([]byte(`{"results":[{"status":503,"problem":{"code":"overloaded","final":false,"retry_after":3}},` +
		`{"status":201,"receipt":{"id":"x"}}]}`))
	f.Add([]byte(`{"results":[null,{"status":400,"problem":{"code":"invalid"}}]}`))
	f.Add([]byte(`{"results":[{},{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := newBatch(2, defaultMaxClockAhead)
		b.requests = batchOf("e0", "e1")
		open, again := b.take(answer{status: 200, body: body}, []int{0, 1}, 1)
		if (len(open) > 0) != (again != nil) {
			t.Fatalf("%q: open %v, again %v", body, open, again)
		}
		settled := 0
		for i, o := range b.outcomes {
			if slices.Contains(open, i) {
				continue
			}
			settled++
			if o.Err == nil && o.Receipt.ID != b.requests[i].ID {
				t.Fatalf("%q: item %d got the receipt %+v", body, i, o.Receipt)
			}
		}
		if settled+len(open) != 2 {
			t.Fatalf("%q: %d settled, %v open", body, settled, open)
		}
	})
}
