package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

type batchResults struct {
	Results []struct {
		Status  int          `json:"status"`
		Receipt *wireReceipt `json:"receipt"`
		Problem *wireProblem `json:"problem"`
	} `json:"results"`
}

func (h *harness) batch(tb testing.TB, body, authorization string) response {
	tb.Helper()
	return h.send(tb, request{method: "POST", path: "/v1/punches/batch", body: body, authorization: authorization})
}

func batchOf(items ...string) string { return `{"punches":[` + strings.Join(items, ",") + `]}` }

func someone(n int) string {
	return `{"id":"` + idAt(time.Duration(n)*time.Second) + `","employee":"e-` + strconv.Itoa(n) + `","kind":"in"}`
}

func TestBatchRecordsItsValidItemsInOrder(t *testing.T) {
	h := newHarness(t)
	h.store.fail = func(_ context.Context, employee string) error {
		switch employee {
		case "e-102":
			return punch.Errorf(punch.UnknownCompany, "no such company")
		case "e-103":
			return punch.Retryable(punch.ClockAhead, 90*time.Second, "ahead", nil)
		case "e-104":
			panic("a bug")
		case "e-105":
			return punch.Retryable(punch.Overloaded, time.Second, "full", nil)
		case "e-106":
			return punch.Retryable(punch.RateLimited, time.Second, "slow down", nil)
		}
		return nil
	}
	var items []string
	var want []int
	add := func(status int, item string) { items, want = append(items, item), append(want, status) }
	add(201, someone(1))
	for _, bad := range badPunches {
		// A body that is not JSON cannot be an item of a batch.
		if strings.HasPrefix(bad.body, "{") && strings.HasSuffix(bad.body, "}") && bad.body != good+good {
			add(400, bad.body)
		}
	}
	for _, bad := range []string{`null`, `[]`, `"x"`, `7`, `true`} {
		add(400, bad)
	}
	add(404, someone(102))
	add(422, someone(103))
	add(503, someone(104))
	add(503, someone(105))
	add(429, someone(106))
	add(409, strings.Replace(good, `"in"`, `"out"`, 1))
	add(201, someone(2))
	h.punch(t, good)

	got := h.batch(t, " "+batchOf(items...)+"\n", h.as(t, auth.Kiosk, "gate"))
	if got.status != http.StatusOK || got.header.Get("Punchclock-Home-Region") != "eu-west" {
		t.Fatalf("answered %d %s with home %q", got.status, got.body, got.header.Get("Punchclock-Home-Region"))
	}
	results := mustDecode[batchResults](t, got.body).Results
	if len(results) != len(want) {
		t.Fatalf("%d results, want %d", len(results), len(want))
	}
	for i, r := range results {
		if r.Status != want[i] || (r.Receipt != nil) != (want[i] < 300) || (r.Problem != nil) != (want[i] >= 300) {
			t.Errorf("item %d %s: %d, receipt %v, problem %v; want %d", i, items[i], r.Status, r.Receipt, r.Problem, want[i])
		}
		if r.Problem != nil && r.Problem.Status != r.Status {
			t.Errorf("item %d: status %d with problem %+v", i, r.Status, r.Problem)
		}
	}
	if len(h.store.receipts) != 3 {
		t.Errorf("%d punches stored, want the good one and two of the batch", len(h.store.receipts))
	}
	if log := h.log.String(); !strings.Contains(log, "a bug") {
		t.Errorf("the panic is not logged: %s", log)
	}
}

func TestBatchForbidsOthersItemByItem(t *testing.T) {
	h := newHarness(t)
	got := h.batch(t, batchOf(someone(1), someone(2)), h.as(t, auth.Employee, "e-2"))
	results := mustDecode[batchResults](t, got.body).Results
	if len(results) != 2 || results[0].Status != 403 || results[1].Status != 201 {
		t.Errorf("answered %s, want 403 and 201", got.body)
	}
}

func TestBatchWithoutClearItemsIsRefusedWhole(t *testing.T) {
	h := newHarness(t)
	kiosk := h.as(t, auth.Kiosk, "gate")
	tooMany := make([]string, maxBatch+1)
	for i := range tooMany {
		tooMany[i] = "0"
	}
	for name, tt := range map[string]struct{ body, field, detail string }{
		"nothing":          {``, "", "empty"},
		"no JSON":          {`punches`, "", "is not valid JSON"},
		"array":            {`[` + good + `]`, "", "must be a JSON object"},
		"null":             {`null`, "", "must be a JSON object"},
		"empty object":     {`{}`, "punches", "1 to 1000"},
		"no punches":       {`{"punches":[]}`, "punches", "1 to 1000"},
		"null punches":     {`{"punches":null}`, "punches", "must be an array"},
		"one punch":        {`{"punches":` + good + `}`, "punches", "must be an array"},
		"too many":         {batchOf(tooMany...), "punches", "1 to 1000"},
		"twice":            {`{"punches":[` + good + `],"punches":[` + good + `]}`, "punches", "only once"},
		"unknown field":    {`{"punches":[` + good + `],"device":"x"}`, "device", "is not a field of a batch"},
		"first unknown":    {`{"company":"x","punches":[` + good + `]}`, "company", "is not a field of a batch"},
		"case of a name":   {`{"Punches":[` + good + `]}`, "Punches", "is not a field of a batch"},
		"cut in an item":   {`{"punches":[` + good + `,{"id":"` + goodID, "id", "ends too early"},
		"cut after items":  {`{"punches":[` + good + `]`, "", "ends too early"},
		"cut after item":   {`{"punches":[` + good, "punches", "ends too early"},
		"comma at the end": {`{"punches":[` + good + `,]}`, "punches", "is not valid JSON"},
		"more behind":      {batchOf(good) + `{}`, "", "one JSON object"},
		"rubbish behind":   {batchOf(good) + `x`, "", "is not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.batch(t, tt.body, kiosk)
			p := got.problem(t)
			if got.status != http.StatusBadRequest || p.Field != tt.field || !strings.Contains(p.Detail, tt.detail) {
				t.Errorf("answered %d %+v, want 400 for field %q that says %q", got.status, p, tt.field, tt.detail)
			}
		})
	}
	if len(h.store.punches) != 0 {
		t.Errorf("%d punches of refused batches reached the recorder", len(h.store.punches))
	}
}

// TestBatchIsRecordedConcurrently lets no punch through before every worker has one. A batch that is recorded one punch
// after the other would never end.
func TestBatchIsRecordedConcurrently(t *testing.T) {
	h := newHarness(t)
	var inside, most atomic.Int64
	full := make(chan struct{})
	open := sync.OnceFunc(func() { close(full) })
	h.store.fail = func(ctx context.Context, _ string) error {
		n := inside.Add(1)
		defer inside.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		if n == batchWorkers {
			open()
		}
		select {
		case <-full:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	items := make([]string, maxBatch)
	for i := range items {
		items[i] = someone(i)
	}
	got := h.batch(t, batchOf(items...), h.as(t, auth.Kiosk, "gate"))
	results := mustDecode[batchResults](t, got.body).Results
	for i, r := range results {
		if r.Status != http.StatusCreated || r.Receipt.Employee != fmt.Sprint("e-", i) {
			t.Fatalf("result %d is %+v", i, r)
		}
	}
	if len(results) != maxBatch || most.Load() != batchWorkers || h.InFlight() != 0 {
		t.Errorf("%d results, at most %d at once, %d still in flight; want %d, %d and 0", len(results), most.Load(), h.InFlight(), maxBatch, batchWorkers)
	}
}
