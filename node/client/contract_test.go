package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/httpapi"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// storage is the service behind the real API, in memory.
type storage struct {
	mu     sync.Mutex
	stored map[punch.Key]punch.Stored
}

func (s *storage) Record(_ context.Context, p punch.Punch) (punch.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.stored[p.Key()]; ok {
		return old.Resolve(&p)
	}
	if err := p.CheckClock(2 * time.Minute); err != nil {
		return punch.Receipt{}, err
	}
	p.Route = punch.Route{HomeRegion: "eu-west", Zone: "Asia/Kolkata", UTCOffset: 19800}
	stored := punch.Stored{Receipt: p.Receipt(punch.Microseconds(time.Now()))}
	s.stored[p.Key()] = stored
	return stored.Receipt, nil
}

func (s *storage) Find(_ context.Context, key punch.Key) (punch.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored, ok := s.stored[key]; ok {
		return stored.Receipt, nil
	}
	return punch.Receipt{}, punch.Errorf(punch.NotFound, "no such punch")
}

func (s *storage) List(_ context.Context, q punch.Query) (found []punch.Receipt, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	order := func(a, b punch.Cursor) int {
		return cmp.Or(a.PunchedAt.Compare(b.PunchedAt), bytes.Compare(a.ID[:], b.ID[:]))
	}
	cursor := func(r punch.Receipt) punch.Cursor { return punch.Cursor{PunchedAt: r.PunchedAt, ID: r.ID} }
	for key, stored := range s.stored {
		r := stored.Receipt
		if key.Employee == q.Employee && !r.PunchedAt.Before(q.From) && r.PunchedAt.Before(q.To) && order(cursor(r), q.After) > 0 {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b punch.Receipt) int { return order(cursor(a), cursor(b)) })
	return found[:min(len(found), q.Limit)], nil
}

// manager lets one token in.
type manager struct{}

func (manager) Verify(_ context.Context, token string) (auth.Identity, error) {
	if token != "secret" {
		return auth.Identity{}, punch.Errorf(punch.Unauthenticated, "the token does not hold")
	}
	return auth.Identity{Company: "acme", Subject: "m", Role: auth.Manager}, nil
}

// mustAPI serves the real API from one node.
func mustAPI(t *testing.T) (url string) {
	t.Helper()
	return mustNode(t, newStorage(), "us-east-n1", time.Now)
}

func newStorage() *storage { return &storage{stored: make(map[punch.Key]punch.Stored)} }

// mustNode serves the real API from a node with that clock.
func mustNode(t *testing.T, s *storage, name string, clock func() time.Time) (url string) {
	t.Helper()
	server := httptest.NewServer(mustHandler(t, s, name, clock))
	t.Cleanup(server.Close)
	return server.URL
}

func mustHandler(t *testing.T, s *storage, name string, clock func() time.Time) *httpapi.API {
	t.Helper()
	board := new(region.Board)
	board.Show(region.NewView("us-east-n1", []region.Member{
		{Node: "us-east-n1", Region: "us-east", State: region.Ready, PublicURL: "http://us-east.example/"},
		{Node: "eu-west-n1", Region: "eu-west", State: region.Ready, PublicURL: "http://eu-west.example"},
		{Node: "ap-south-n1", Region: "ap-south", State: region.Draining, PublicURL: "http://ap-south.example"},
	}))
	api, err := httpapi.New(
		httpapi.Config{Node: name, Region: "us-east", Deadline: 10 * time.Second, MaxBody: 1 << 20},
		httpapi.Deps{
			Recorder: s, Reader: s, Auth: manager{}, Board: board, Clock: clock, Log: slog.New(slog.DiscardHandler),
			Draining: func() bool { return false }, ClockWrong: func() bool { return false },
			Tracer: tracenoop.NewTracerProvider(), Meter: metricnoop.NewMeterProvider(),
		})
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// TestAgainstTheRealAPI holds what this package believes of the API against
// the API.
func TestAgainstTheRealAPI(t *testing.T) {
	store, ctx := newStorage(), background(t)
	url := mustNode(t, store, "us-east-n1", time.Now)
	c := mustNew(t, []string{url, mustNode(t, store, "us-east-n2", time.Now)})
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
		if !errors.As(batch[i].Err, &e) || e.Status != want.Status || e.Code != want.Code || e.Final != want.Final || want.Field != "" && e.Field != want.Field {
			t.Errorf("item %d: %s, want %+v", i, describe(batch[i].Err), want)
		}
	}
	var e *Error
	if !errors.As(batch[3].Err, &e) || e.RetryAfter < 50*time.Minute || e.RetryAfter > time.Hour {
		t.Errorf("a clock that is an hour ahead: %s, want Retry-After of an hour less two minutes", describe(batch[3].Err))
	}
	stranger := mustNew(t, []string{url}, func(cfg *Config) { cfg.Token = StaticToken("x") })
	if _, err := stranger.Punch(ctx, request()); !errors.As(err, &e) || e.Final || e.Code != punch.Unauthenticated {
		t.Errorf("a wrong token: %s", describe(err))
	}
	if _, err := c.Find(ctx, "e1", punch.NewID()); !errors.As(err, &e) || e.Code != punch.NotFound {
		t.Errorf("an id that nobody used: %s", describe(err))
	}
}

func TestAFullBatchAndItsPages(t *testing.T) {
	c, ctx := mustNew(t, []string{mustAPI(t)}), background(t)
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
