package client

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// TestAgainstTheRealAPI checks the assumptions of this package about the API.
func TestAgainstTheRealAPI(t *testing.T) {
	store, ctx := clienttest.NewService(), background(t)
	url := store.MustServe(t, "us-east-n1", time.Now)
	c := mustNew(t, []string{url, store.MustServe(t, "us-east-n2", time.Now)})
	r := request()
	r.ID = punch.IDAt(r.At)
	first, err := c.Punch(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if first.UTCOffset != 19800 || first.EntryRegion != "us-east" || first.HomeRegion != "eu-west" || first.Node != "us-east-n1" ||
		!first.PunchedAt.Equal(punch.Microseconds(r.At)) || first.Company != "acme" || first.Replayed || first.RecordedAt.IsZero() {
		t.Errorf("the receipt is %+v", first)
	}
	again, err := c.Punch(ctx, r)
	if err != nil || !again.Replayed {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	renamed := r
	renamed.Source, renamed.Note = "gate-9", "renamed in between"
	if again, err = c.Punch(ctx, renamed); err != nil || !again.Replayed || again.RecordedAt != first.RecordedAt {
		t.Errorf("the same by a device with a new name: %+v, %v", again, err)
	}
	found, err := c.Find(ctx, r.Employee, r.ID)
	if err != nil || found.Receipt != first.Receipt {
		t.Errorf("Find: %+v, %v; want %+v", found, err, first)
	}
	list, err := c.List(ctx, r.Employee, r.At.Add(-time.Hour), r.At.Add(time.Hour))
	if err != nil || len(list) != 1 || list[0] != first.Receipt {
		t.Errorf("List: %+v, %v; want %+v", list, err, first)
	}

	other, old, ahead, wrong := r, request(), request(), request()
	other.Kind = punch.Out
	old.At = time.Time{}
	old.ID = punch.IDAt(time.Now().Add(-400 * 24 * time.Hour))
	ahead.At = time.Time{}
	ahead.ID = punch.IDAt(time.Now().Add(time.Hour))
	wrong.Kind = "lunch"
	wrong.At = time.Time{}
	batch, err := c.PunchBatch(ctx, []Request{r, other, old, ahead, wrong})
	if err != nil {
		t.Fatal(err)
	}
	if b := batch[0]; b.Err != nil || !b.Receipt.Replayed {
		t.Errorf("a replay: %+v", b)
	}
	if b := batch[2]; b.Err != nil || !b.Receipt.Late || !b.Receipt.NeedsReview {
		t.Errorf("an old punch: %+v", b)
	}
	for i, want := range map[int]Error{
		1: {Status: 409, Code: punch.Conflict, Final: true},
		3: {Status: 422, Code: punch.ClockAhead, Final: true}, // both nodes say that it is an hour ahead
		4: {Status: 400, Code: punch.Invalid, Final: true, Field: "kind"},
	} {
		var e *Error
		if !errors.As(batch[i].Err, &e) || e.Status != want.Status || e.Code != want.Code || e.Final != want.Final ||
			want.Field != "" && e.Field != want.Field {
			t.Errorf("item %d: %s, want %+v", i, describe(batch[i].Err), want)
		}
	}
	var e *Error
	if !errors.As(batch[3].Err, &e) || e.RetryAfter < 50*time.Minute || e.RetryAfter > time.Hour {
		t.Errorf("a clock that is an hour ahead: %s, want Retry-After of an hour less two minutes", describe(batch[3].Err))
	}
	unknown := mustNew(t, []string{url}, func(cfg *Config) { cfg.Token = StaticToken("x") })
	if _, err := unknown.Punch(ctx, request()); !errors.As(err, &e) || e.Final || e.Code != punch.Unauthenticated {
		t.Errorf("a wrong token: %s", describe(err))
	}
	if _, err := c.Find(ctx, "e1", punch.NewID()); !errors.As(err, &e) || e.Code != punch.NotFound {
		t.Errorf("an unused id: %s", describe(err))
	}
}

// TestEMailAddressesAsEmployees sends an id with characters that mean something else in the query of a URL.
func TestEMailAddressesAsEmployees(t *testing.T) {
	c, ctx := mustNew(t, []string{clienttest.NewService().MustServe(t, "us-east-n1", time.Now)}), background(t)
	r := request()
	r.ID, r.Employee = punch.IDAt(r.At), "anna.schmidt+clock@example.com"
	first, err := c.Punch(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := c.Find(ctx, r.Employee, r.ID); err != nil || found.Receipt != first.Receipt {
		t.Errorf("Find: %+v, %v; want %+v", found, err, first)
	}
	list, err := c.List(ctx, r.Employee, r.At.Add(-time.Hour), r.At.Add(time.Hour))
	if err != nil || len(list) != 1 || list[0] != first.Receipt {
		t.Errorf("List: %+v, %v; want %+v", list, err, first)
	}
}

func TestAFullBatchAndItsPages(t *testing.T) {
	c, ctx := mustNew(t, []string{clienttest.NewService().MustServe(t, "us-east-n1", time.Now)}), background(t)
	began := time.Now()
	var requests []Request
	for i := range MaxBatch {
		requests = append(requests, Request{ID: punch.NewID(), Employee: "e1", Kind: punch.Auto, Note: fmt.Sprint(i)})
	}
	outcomes, err := c.PunchBatch(ctx, requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Err != nil || o.Receipt.ID != requests[i].ID {
			t.Fatalf("item %d: %+v", i, o)
		}
	}
	list, err := c.List(ctx, "e1", began.Add(-time.Minute), time.Time{})
	if err != nil || len(list) != MaxBatch {
		t.Fatalf("List returns %d punches, %v", len(list), err)
	}
	seen := make(map[punch.ID]bool)
	for _, r := range list {
		seen[r.ID] = true
	}
	if len(seen) != MaxBatch {
		t.Errorf("List returns %d different punches of %d", len(seen), MaxBatch)
	}
}
