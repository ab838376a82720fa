package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

type page struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	Punches []wireReceipt `json:"punches"`
	Next    string        `json:"next"`
}

func (h *harness) get(tb testing.TB, path string, role auth.Role, subject string) response {
	tb.Helper()
	return h.send(tb, request{method: "GET", path: path, authorization: h.as(tb, role, subject)})
}

func TestReadYourOwnWrites(t *testing.T) {
	h := newHarness(t)
	body := `{"id":"` + idAt(time.Minute) + `","employee":"e-1","kind":"in"}` // a device that is a minute fast
	written := h.punch(t, body)
	want := written.receipt(t)

	found := h.get(t, written.header.Get("Location"), auth.Employee, "e-1")
	if got := found.receipt(t); !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v, want %+v", got, want)
	}
	listed := h.get(t, "/v1/employees/e-1/punches", auth.Employee, "e-1")
	got := mustDecode[page](t, listed.body)
	if len(got.Punches) != 1 || !reflect.DeepEqual(got.Punches[0], want) || got.Next != "" {
		t.Errorf("listed %+v, want one %+v", got, want)
	}
	if got.From != "2026-02-22T08:00:00.123456Z" || got.To != "2026-03-02T08:00:00.123456Z" {
		t.Errorf("the range is %s to %s", got.From, got.To)
	}
	for _, r := range []response{found, listed} {
		if home := r.header.Get("Punchclock-Home-Region"); home != "eu-west" {
			t.Errorf("home region is %q", home)
		}
	}
	if other := mustDecode[page](t, h.get(t, "/v1/employees/e-2/punches", auth.Manager, "boss").body); len(other.Punches) != 0 || other.Punches == nil {
		t.Errorf("another employee has %+v", other)
	}
}

// TestAnEMailAddressInAPath reads an employee whose id has characters that some clients percent-encode.
func TestAnEMailAddressInAPath(t *testing.T) {
	h := newHarness(t)
	const employee = "anna.schmidt+clock@example.com"
	id := idAt(0)
	written := h.punch(t, `{"id":"`+id+`","employee":"`+employee+`","kind":"in"}`)
	want := written.receipt(t)
	if got := written.header.Get("Location"); got != "/v1/employees/"+employee+"/punches/"+id {
		t.Errorf("Location is %s", got)
	}
	for _, path := range []string{employee, "anna.schmidt%2Bclock%40example.com"} {
		if got := h.get(t, "/v1/employees/"+path+"/punches/"+id, auth.Employee, employee).receipt(t); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: found %+v, want %+v", path, got, want)
		}
		if got := mustDecode[page](t, h.get(t, "/v1/employees/"+path+"/punches", auth.Employee, employee).body); len(got.Punches) != 1 {
			t.Errorf("%s: listed %+v, want one punch", path, got)
		}
	}
}

func TestWhoMayRead(t *testing.T) {
	h := newHarness(t)
	for _, tt := range []struct {
		role    auth.Role
		subject string
		status  int
	}{
		{auth.Employee, "e-1", 200}, {auth.Employee, "e-2", 403}, {auth.Kiosk, "e-1", 403}, {auth.Manager, "boss", 200}, {auth.Operator, "root", 200},
	} {
		if got := h.get(t, "/v1/employees/e-1/punches", tt.role, tt.subject); got.status != tt.status {
			t.Errorf("%s %s was answered %d, want %d", tt.role, tt.subject, got.status, tt.status)
		}
	}
}

func TestHeadAnswersLikeGetWithoutABody(t *testing.T) {
	h := newHarness(t)
	got := h.send(t, request{method: "HEAD", path: "/openapi.yaml"})
	if got.status != http.StatusOK || len(got.body) != 0 || got.header.Get("Punchclock-Node") == "" {
		t.Errorf("answered %d %s with %d bytes", got.status, got.header, len(got.body))
	}
}

func TestBadQueries(t *testing.T) {
	h := newHarness(t)
	for query, field := range map[string]string{
		"from=yesterday":                          "from",
		"from=2026-02-30":                         "from",
		"from=2026-03-01T00:00:00":                "from",
		"from=2026-03-01T00:00:00+01:00":          "from", // + is a space in a query
		"to=2026-03-01T00:00:00,5Z":               "to",
		"from=2026-03-01&to=2026-03-01":           "from",
		"from=2026-03-02&to=2026-03-01":           "from",
		"from=2026-03-03":                         "from", // without to: until tomorrow
		"from=2026-01-01&to=2026-03-05":           "to",
		"from=2026-02-01&from=2026-02-02":         "from",
		"form=2026-02-01":                         "form",
		"from=2026-02-01;to=2026-02-02":           "",
		"cursor=x":                                "cursor",
		"cursor=" + strings.Repeat("A", 31) + "=": "cursor",
		"cursor=" + strings.Repeat("A", 33):       "cursor",
		"cursor=f_____" + strings.Repeat("A", 26): "cursor", // in the far future
		"limit=10":                      "limit",
		strings.Repeat("x", 100) + "=1": strings.Repeat("x", 64),
		"from=" + strings.Repeat("9", 5000) + "-01-01": "from",
		"%ff=1": "\uFFFD",
	} {
		got := h.get(t, "/v1/employees/e-1/punches?"+query, auth.Manager, "boss")
		if p := got.problem(t); got.status != http.StatusBadRequest || p.Field != field {
			t.Errorf("%.80s was answered %d %+v, want 400 for %q", query, got.status, p, field)
		}
	}
	for path, field := range map[string]string{
		"/v1/employees/a%20b/punches": "employee", "/v1/employees/a%2Fb/punches": "employee",
		"/v1/employees/a%2Fb/punches/" + idAt(0): "employee", "/v1/employees/e-1/punches/6f1de07b-9a11-4c3e-8a54-2f1de07b9a11": "id",
	} {
		got := h.get(t, path, auth.Manager, "boss")
		if p := got.problem(t); got.status != http.StatusBadRequest || p.Field != field {
			t.Errorf("%s was answered %d %+v, want 400 for %q", path, got.status, p, field)
		}
	}
}

func TestQueryRanges(t *testing.T) {
	at := func(s string) time.Time {
		got, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return got.UTC()
	}
	for query, want := range map[string][2]time.Time{
		"":                              {at("2026-02-22T08:00:00.123456Z"), at("2026-03-02T08:00:00.123456Z")},
		"from=2026-02-01":               {at("2026-02-01T00:00:00Z"), at("2026-03-02T08:00:00.123456Z")},
		"from=2025-02-01":               {at("2025-02-01T00:00:00Z"), at("2025-04-04T00:00:00Z")}, // 62 days
		"to=2025-02-08":                 {at("2025-02-01T00:00:00Z"), at("2025-02-08T00:00:00Z")},
		"from=2026-01-01&to=2026-03-04": {at("2026-01-01T00:00:00Z"), at("2026-03-04T00:00:00Z")}, // 62 days
		"from=2026-01-01T00:00:00.0000019%2B02:00&to=2026-01-02": {at("2025-12-31T22:00:00.000001Z"), at("2026-01-02T00:00:00Z")},
	} {
		q, err := parseQuery(query, now)
		if err != nil || !q.From.Equal(want[0]) || !q.To.Equal(want[1]) {
			t.Errorf("%q asks for %s to %s, error %v; want %s to %s", query, q.From, q.To, err, want[0], want[1])
		}
	}
}

// TestPagesHoldEveryPunchOnce follows next through any number of punches, all or some of them at the same instant.
func TestPagesHoldEveryPunchOnce(t *testing.T) {
	h := newHarness(t)
	manager := h.as(t, auth.Manager, "boss")
	for _, n := range []int{0, 1, pageSize - 1, pageSize, pageSize + 1, 2*pageSize + 3} {
		for _, instants := range []int{1, 7} {
			h.store.mu.Lock()
			h.store.receipts = manyReceipts(n, instants)
			h.store.mu.Unlock()
			var ids []string
			for query, pages := "", 0; ; pages++ {
				got := h.send(t, request{method: "GET", path: "/v1/employees/e-1/punches" + query, authorization: manager})
				answer := mustDecode[page](t, got.body)
				for _, r := range answer.Punches {
					ids = append(ids, r.ID)
				}
				if answer.Next == "" {
					break
				}
				if len(answer.Punches) != pageSize || pages > n/pageSize {
					t.Fatalf("page %d of %d punches has %d and a next", pages, n, len(answer.Punches))
				}
				query = "?from=" + answer.From + "&to=" + answer.To + "&cursor=" + answer.Next
			}
			slices.Sort(ids)
			if distinct := len(slices.Compact(ids)); len(ids) != n || distinct != n {
				t.Errorf("%d punches at %d instants: pages hold %d, %d distinct", n, instants, len(ids), distinct)
			}
		}
	}
}

func manyReceipts(n, instants int) map[punch.Key]punch.Receipt {
	receipts := make(map[punch.Key]punch.Receipt, n)
	for i := range n {
		r := punch.Receipt{
			Company: "acme", Employee: "e-1", ID: punch.NewID(), Kind: punch.In, HomeRegion: "eu-west", EntryRegion: "eu-west", Zone: "UTC",
			PunchedAt: punch.Microseconds(now.Add(-time.Duration(i%instants) * time.Hour)),
		}
		receipts[punch.Key{Company: r.Company, Employee: r.Employee, ID: r.ID}] = r
	}
	return receipts
}

// TestCursorsKeepTheOrder holds that two cursors compare like the positions from which they were made.
func TestCursorsKeepTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) punch.Cursor {
			c := punch.Cursor{PunchedAt: now.Add(-time.Duration(rapid.Int64Range(0, int64(defaultSpan)).Draw(t, name)))}
			c.PunchedAt = punch.Microseconds(c.PunchedAt)
			copy(c.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name+" id"))
			return c
		}
		a, b := draw("a"), draw("b")
		var got [2]punch.Cursor
		for i, c := range []punch.Cursor{a, b} {
			q, err := parseQuery("cursor="+encodeCursor(c), now)
			if err != nil {
				t.Fatal(err)
			}
			got[i] = q.After
		}
		if order(got[0], got[1]) != order(a, b) || got[0] != a || got[1] != b {
			t.Fatalf("%v and %v became %v", a, b, got)
		}
	})
}

func TestReadsAreBounded(t *testing.T) {
	h := newHarness(t)
	release := make(chan struct{})
	h.store.fail = func(context.Context, string) error { <-release; return nil }
	manager := h.as(t, auth.Manager, "boss")
	answered := make(chan response)
	for range maxReads {
		h.reading <- struct{}{} // as many reads as there may be
	}
	<-h.reading
	go func() {
		answered <- h.send(t, request{method: "GET", path: "/v1/employees/e-1/punches", authorization: manager})
	}()
	eventually(t, "a read took the last place", func() bool { return len(h.reading) == maxReads })
	got := h.send(t, request{method: "GET", path: "/v1/employees/e-1/punches/" + idAt(0), authorization: manager})
	if p := got.problem(t); got.status != http.StatusServiceUnavailable || p.Code != punch.Overloaded || got.header.Get("Retry-After") != "1" {
		t.Errorf("one read too many was answered %d %+v, want 503 overloaded", got.status, p)
	}
	if other := h.get(t, "/v1/regions", auth.Kiosk, "gate"); other.status != http.StatusOK {
		t.Errorf("regions were answered %d meanwhile", other.status)
	}
	close(release)
	if got := <-answered; got.status != http.StatusOK {
		t.Errorf("the read that had a place was answered %d %s", got.status, got.body)
	}
	eventually(t, "the place is given back", func() bool { return len(h.reading) == maxReads-1 })
}

func TestRegions(t *testing.T) {
	h := newHarness(t)
	if got := h.get(t, "/v1/regions", auth.Employee, "e-1"); string(got.body) != `{"regions":[]}` {
		t.Errorf("without members the answer is %s", got.body)
	}
	h.cluster.Set(region.NewView("a1", []region.Member{
		{Node: "a1", Region: "us-east", State: region.Ready, PublicURL: "https://us-2.example"},
		{Node: "a2", Region: "us-east", State: region.Ready, PublicURL: "https://us-1.example"},
		{Node: "a3", Region: "us-east", State: region.Ready, PublicURL: "https://us-1.example"},
		{Node: "a4", Region: "us-east", State: region.Draining, PublicURL: "https://us-4.example"},
		{Node: "b1", Region: "eu-west", State: region.Warming, PublicURL: "https://eu.example"},
		{Node: "c1", Region: "ap-south", State: region.Ready},
	}))
	got := h.get(t, "/v1/regions", auth.Employee, "e-1")
	want := `{"regions":[` +
		`{"name":"ap-south","state":"ready","endpoints":[],"nodes":{"ready":1,"total":1}},` +
		`{"name":"eu-west","state":"unavailable","endpoints":[],"nodes":{"ready":0,"total":1}},` +
		`{"name":"us-east","state":"ready","endpoints":["https://us-1.example","https://us-2.example"],"nodes":{"ready":3,"total":4}}]}`
	if string(got.body) != want {
		t.Errorf("regions are %s\nwant %s", got.body, want)
	}
}

func TestReadinessIsForMachinesThatAskAllTheTime(t *testing.T) {
	h := newHarness(t)
	h.away.Store(true)
	got := h.send(t, request{method: "GET", path: "/readyz"})
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("not ready: %d %v", got.status, got.header)
	}
	h.away.Store(false)
	if got := h.send(t, request{method: "HEAD", path: "/readyz"}); got.status != http.StatusOK {
		t.Errorf("ready: %d", got.status)
	}
	if spans := h.spans.Ended(); len(spans) > 0 {
		t.Errorf("health checks left %d spans, the first is %s", len(spans), spans[0].Name())
	}
	if log := h.log.String(); log != "" {
		t.Errorf("health checks left in the log: %s", log)
	}
}
