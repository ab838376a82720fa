package client

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

func stored(id punch.ID, employee string) map[string]any {
	return receiptBody([]byte(`{"id":"` + id.String() + `","employee":"` + employee + `","kind":"in"}`))
}

func TestFind(t *testing.T) {
	id := punch.NewID()
	urls, arrived := servers(t, page(502), func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		writeJSON(w, "application/json", http.StatusOK, stored(id, "e1"))
	})
	got, err := mustNew(t, urls).Find(background(t), "e1", id)
	if err != nil || got.ID != id || got.Attempts != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if want := "GET /v1/employees/e1/punches/" + id.String(); arrived()[1].path != want || arrived()[1].body != "" {
		t.Errorf("asked %+v, want %s without a body", arrived()[1], want)
	}
	urls, _ = servers(t, problem(404, punch.NotFound, ""))
	var e *Error
	if _, err := mustNew(t, urls).Find(background(t), "e1", id); !errors.As(err, &e) || e.Code != punch.NotFound || e.ID != id {
		t.Errorf("a punch that was not recorded: %s", describe(err))
	}
}

func TestListReadsAllPages(t *testing.T) {
	from := time.Date(2026, 11, 2, 0, 0, 0, 0, time.FixedZone("", 3600))
	ids := []punch.ID{punch.NewID(), punch.NewID(), punch.NewID()}
	urls, arrived := servers(t, func(w http.ResponseWriter, r *http.Request, _ []byte, number int) {
		answer := map[string]any{"from": from, "to": from.Add(24 * time.Hour), "punches": []any{stored(ids[number-1], "e 1/2")}}
		if number < len(ids) {
			answer["next"] = "c" + string(rune('0'+number))
		}
		writeJSON(w, "application/json", http.StatusOK, answer)
	})
	got, err := mustNew(t, urls).List(background(t), "e 1/2", from, time.Time{})
	if err != nil || len(got) != len(ids) || got[0].ID != ids[0] || got[2].ID != ids[2] {
		t.Fatalf("%+v, %v", got, err)
	}
	const base = "GET /v1/employees/e%201%2F2/punches?"
	for i, want := range []string{
		base + "from=2026-11-01T23%3A00%3A00Z",
		base + "cursor=c1&from=2026-11-01T23%3A00%3A00Z&to=2026-11-02T23%3A00%3A00Z",
		base + "cursor=c2&from=2026-11-01T23%3A00%3A00Z&to=2026-11-02T23%3A00%3A00Z",
	} {
		if arrived()[i].path != want {
			t.Errorf("asked %s, want %s", arrived()[i].path, want)
		}
	}
}

func TestListRefusesOtherAnswers(t *testing.T) {
	for name, answer := range map[string]answerFunc{
		"no JSON":      page(200),
		"no punches":   raw(200, `{"from":"2026-11-02T00:00:00Z"}`),
		"half of one":  raw(200, `{"punches":[{"id":"x"}]}`),
		"not a page":   raw(200, `[]`),
		"never ending": raw(200, `{"punches":[],"next":"again"}`),
	} {
		urls, arrived := servers(t, answer)
		c := mustNew(t, urls, func(cfg *Config) { cfg.TotalTimeout = 50 * time.Millisecond })
		if name == "never ending" {
			c.cfg.TotalTimeout = time.Minute
		}
		if got, err := c.List(background(t), "e1", time.Time{}, time.Time{}); err == nil || IsFinal(err) || len(arrived()) > maxPages {
			t.Errorf("%s: %+v, %s after %d requests", name, got, describe(err), len(arrived()))
		}
	}
	urls, _ := servers(t, raw(200, `{"punches":[]}`))
	if got, err := mustNew(t, urls).List(background(t), "e1", time.Time{}, time.Time{}); err != nil || len(got) != 0 {
		t.Errorf("no punches: %+v, %v", got, err)
	}
}
