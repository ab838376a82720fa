package bench

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// recorder answers like a node and keeps what it was sent.
type recorder struct {
	refuseEach int // every so many requests is refused; none when 0

	mu       sync.Mutex // guards the fields below
	requests int
	ids      map[string]int
	tokens   map[string]int
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body) // a body that is cut off does not decode
	type item struct{ ID, Employee, Kind string }
	var in struct {
		item
		Punches []item
	}
	if err := json.Unmarshal(body, &in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if r.refuseEach > 0 && r.requests%r.refuseEach == 0 {
		http.Error(w, "full", http.StatusServiceUnavailable)
		return
	}
	if req.URL.Path == "/v1/punches" {
		in.Punches = []item{in.item}
	}
	for _, p := range in.Punches {
		if _, err := punch.ParseID(p.ID); err != nil || !punch.ValidEmployee(p.Employee) || p.Kind != "in" {
			http.Error(w, p.ID+" "+p.Employee, http.StatusUnprocessableEntity)
			return
		}
		r.ids[p.ID]++
		r.tokens[req.Header.Get("Authorization")]++
	}
	if req.URL.Path == "/v1/punches/batch" {
		_, _ = io.WriteString(w, `{"results":[`+strings.TrimSuffix(strings.Repeat(`{"status":201},`, len(in.Punches)), ",")+`]}`)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func mustRecorder(t *testing.T, refuseEach int) (*recorder, string) {
	t.Helper()
	r := &recorder{refuseEach: refuseEach, ids: make(map[string]int), tokens: make(map[string]int)}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return r, server.URL
}

func (r *recorder) check(t *testing.T, acknowledged int64) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if int64(len(r.ids)) != acknowledged {
		t.Errorf("the server recorded %d punches, the callers counted %d", len(r.ids), acknowledged)
	}
	for id, n := range r.ids {
		if n != 1 {
			t.Errorf("the id %s was sent %d times, want once", id, n)
		}
	}
}

var twoCompanies = []cluster.Company{{ID: "a", Token: "token-a"}, {ID: "b", Token: "token-b"}}

func TestClosedLoopSendsTheCount(t *testing.T) {
	r, url := mustRecorder(t, 0)
	result, err := runClosed(t.Context(), &closedJob{
		Targets: []string{url}, Companies: twoCompanies, Connections: 8, Batch: 1, Count: 100, Duration: time.Minute,
	})
	if err != nil || result.Acknowledged != 100 || result.Refused != 0 {
		t.Fatalf("result %+v, error %v, want 100 acknowledged", result, err)
	}
	r.check(t, 100)
	if r.tokens["Bearer token-a"] == 0 || r.tokens["Bearer token-b"] == 0 {
		t.Errorf("tokens %v, want both companies", r.tokens)
	}
	if result.P99 < result.P50 || result.P50 <= 0 {
		t.Errorf("p50 %s and p99 %s", result.P50, result.P99)
	}
}

func TestClosedLoopCountsRefusalsAndGoesOn(t *testing.T) {
	r, url := mustRecorder(t, 5)
	result, err := runClosed(t.Context(), &closedJob{
		Targets: []string{url}, Companies: twoCompanies, Connections: 4, Batch: 1, Count: 40, Duration: time.Minute,
	})
	if err != nil || result.Acknowledged != 40 {
		t.Fatalf("result %+v, error %v, want 40 acknowledged", result, err)
	}
	r.check(t, 40)
	if result.Refused == 0 || !strings.Contains(result.LastRefusal, "503") {
		t.Errorf("refused %d, last %q, want refusals with status 503", result.Refused, result.LastRefusal)
	}
}

func TestClosedLoopCountsPunchesOfBatches(t *testing.T) {
	r, url := mustRecorder(t, 0)
	result, err := runClosed(t.Context(), &closedJob{
		Targets: []string{url}, Companies: twoCompanies, Connections: 2, Batch: 50, Count: 500, Duration: time.Minute,
	})
	if err != nil || result.Acknowledged != 500 {
		t.Fatalf("result %+v, error %v, want 500 acknowledged", result, err)
	}
	r.check(t, 500)
}

func TestClosedLoopEndsWithItsDuration(t *testing.T) {
	r, url := mustRecorder(t, 0)
	result, err := runClosed(t.Context(), &closedJob{
		Targets: []string{url}, Companies: twoCompanies, Connections: 2, Batch: 1, Duration: 300 * time.Millisecond,
	})
	if err != nil || result.Acknowledged == 0 || result.Took < 300*time.Millisecond {
		t.Fatalf("result %+v, error %v, want punches for 300ms", result, err)
	}
	r.check(t, result.Acknowledged)
}

func TestClosedLoopReportsAServerThatIsGone(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	url := server.URL
	server.Close()
	_, err := runClosed(t.Context(), &closedJob{
		Targets: []string{url}, Companies: twoCompanies, Connections: 2, Batch: 1, Duration: time.Minute,
	})
	if err == nil || !strings.Contains(err.Error(), url) {
		t.Fatalf("error %v, want one that names %s", err, url)
	}
}
