// Package punchtest has the tests that every implementation of punch recording must pass: batcher, dispatch and peer. A
// punch may pass all of them on its way, so one rule that a single part breaks gives a caller the outcome of another.
package punchtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Home is the home region of all punches.
const Home = "eu-west"

// RecordBatch is the function under test.
type RecordBatch func(items []punch.Item) []punch.Outcome

// Write stands for the database behind the function under test. It is safe for concurrent use.
type Write func(ctx context.Context, items []punch.Item) []punch.Outcome

// Each makes a RecordBatch of a function that records one punch.
func Each(record func(ctx context.Context, p punch.Punch) (punch.Receipt, error)) RecordBatch {
	return func(items []punch.Item) []punch.Outcome {
		outcomes := make([]punch.Outcome, len(items))
		var wg sync.WaitGroup
		for i := range items {
			wg.Go(func() { outcomes[i].Receipt, outcomes[i].Err = record(items[i].Ctx, items[i].Punch) })
		}
		wg.Wait()
		return outcomes
	}
}

// Items returns punches as an entry node stamps and routes them.
func Items(ctx context.Context, employees ...string) []punch.Item {
	items := make([]punch.Item, len(employees))
	for i, employee := range employees {
		p := punch.Stamped(punch.Request{Company: "acme", Employee: employee, ID: punch.NewID(), Kind: punch.In}, time.Now(), "us-east", "")
		p.Route = punch.Route{HomeRegion: Home, Epoch: 1, Zone: "UTC"}
		items[i] = punch.Item{Ctx: ctx, Punch: p}
	}
	return items
}

// database answers by the employee's name: "conflict-…", "away-…", "replayed-…", "stuck-…" and "panic-…". It records any
// other punch.
func database(ctx context.Context, items []punch.Item) []punch.Outcome {
	outcomes := make([]punch.Outcome, len(items))
	for i := range items {
		switch kind, _, _ := strings.Cut(items[i].Employee, "-"); kind {
		case "conflict":
			outcomes[i].Err = &punch.Error{Code: punch.Conflict, Field: "id", Message: "the id of " + items[i].Employee}
		case "away":
			outcomes[i].Err = punch.Retryable(punch.Unavailable, 3*time.Second, "no database for "+items[i].Employee, nil)
		case "stuck":
			<-ctx.Done()
			outcomes[i].Err = punch.Retryable(punch.Unavailable, time.Second, "no answer for "+items[i].Employee, ctx.Err())
		case "panic":
			panic("a bug")
		default:
			outcomes[i].Receipt = items[i].Receipt(time.Now())
			outcomes[i].Receipt.Replayed = kind == "replayed"
		}
	}
	return outcomes
}

// TestRecording runs the tests. Open returns the function under test in front of write.
func TestRecording(t *testing.T, open func(t *testing.T, write Write) RecordBatch) {
	for name, test := range map[string]func(*testing.T, RecordBatch){
		"no items": func(t *testing.T, record RecordBatch) {
			if out := record(nil); len(out) != 0 {
				t.Errorf("%d outcomes for no items", len(out))
			}
		},
		"each item has its own outcome": testOwnOutcomes,
		"the same punch twice": func(t *testing.T, record RecordBatch) {
			items := Items(t.Context(), "anna", "bert")
			checkOwn(t, items, record(append(items, items...))[len(items):])
		},
		"a caller that has left": func(t *testing.T, record RecordBatch) {
			left, leave := context.WithCancel(t.Context())
			leave()
			items := append(Items(left, "gone"), Items(t.Context(), "anna", "bert")...)
			out := record(items)
			if out[0].Err != nil {
				checkUnconfirmed(t, items[:1], out[:1])
			} else { // the punch may be recorded although its caller has left
				checkOwn(t, items[:1], out[:1])
			}
			checkOwn(t, items[1:], out[1:])
		},
		"a database that does not answer": func(t *testing.T, record RecordBatch) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			items := Items(ctx, "stuck-1", "stuck-2")
			checkUnconfirmed(t, items, record(items))
		},
		"a panic": func(t *testing.T, record RecordBatch) {
			items := Items(t.Context(), "panic-1")
			checkUnconfirmed(t, items, record(items))
			items = Items(t.Context(), "anna")
			checkOwn(t, items, record(items))
		},
		"concurrent batches": func(t *testing.T, record RecordBatch) {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() { testOwnOutcomes(t, record) })
			}
			wg.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, database)) })
	}
}

func testOwnOutcomes(t *testing.T, record RecordBatch) {
	var employees []string
	for i := range 200 {
		employees = append(employees, fmt.Sprint([]string{"recorded-", "conflict-", "replayed-", "recorded-", "away-"}[i%5], i))
	}
	items := Items(t.Context(), employees...)
	checkOwn(t, items, record(items))
}

// checkOwn holds that each outcome is of its own item, whatever the outcome is.
func checkOwn(t *testing.T, items []punch.Item, out []punch.Outcome) {
	t.Helper()
	if len(out) != len(items) {
		t.Errorf("%d outcomes for %d items", len(out), len(items))
		return
	}
	for i := range items {
		employee, err := items[i].Employee, out[i].Err
		kind, _, _ := strings.Cut(employee, "-")
		code := map[string]punch.Code{"conflict": punch.Conflict, "away": punch.Unavailable}[kind]
		switch r := out[i].Receipt; {
		case punch.CodeOf(err) != code:
			t.Errorf("%s: error %v, want code %q", employee, err, code)
		case err != nil:
			e := punch.AsError(err)
			field, after := e.Field == "id", e.RetryAfter == 3*time.Second
			if !strings.HasSuffix(e.Message, " "+employee) || field != (kind == "conflict") || after != (kind == "away") {
				t.Errorf("%s got the error %+v", employee, e)
			}
		case r.ID != items[i].ID || r.Employee != employee || r.RecordedAt.IsZero() || r.Replayed != (kind == "replayed"):
			t.Errorf("%s got the receipt %+v", employee, r)
		}
	}
}

// checkUnconfirmed holds that each caller is told to send the punch again.
func checkUnconfirmed(t *testing.T, items []punch.Item, out []punch.Outcome) {
	t.Helper()
	if len(out) != len(items) {
		t.Errorf("%d outcomes for %d items", len(out), len(items))
		return
	}
	for i := range items {
		if e := punch.AsError(out[i].Err); out[i].Err == nil || e.Code != punch.Unavailable || e.RetryAfter <= 0 {
			t.Errorf("%s: %+v, want Unavailable with a time to retry", items[i].Employee, out[i])
		}
	}
}
