package load

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service records punches in memory, through three entry regions.
type service struct {
	mu     sync.Mutex
	stored map[string]map[string]any // receipts by id
	// before is called with each request's id. If it returns false, the connection breaks.
	before func(region, id string) bool
	// lose reports whether the answer to a stored punch gets lost.
	lose func(region, id string) bool
	// status returns the status of a refusal, or 0.
	status func(id string) int
	code   string // of the refusal; invalid by default
}

var regionNames = []string{"us-east", "eu-west", "ap-south"}

// start serves a region.
func (s *service) start(t *testing.T, region string) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, region) }))
	t.Cleanup(server.Close)
	return server.URL
}

func (s *service) serve(w http.ResponseWriter, r *http.Request, region string) {
	body, err := io.ReadAll(r.Body)
	var sent struct{ ID, Employee, Kind, At string }
	if err = errors.Join(err, json.Unmarshal(body, &sent)); err != nil {
		panic(http.ErrAbortHandler)
	}
	if s.before != nil && !s.before(region, sent.ID) {
		panic(http.ErrAbortHandler)
	}
	status := 0
	if s.status != nil {
		status = s.status(sent.ID)
	}
	if status != 0 {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"code": cmp.Or(s.code, "invalid"), "final": s.code == ""}) // the client may be gone
		return
	}
	receipt := s.receipt(r, region, sent.ID, sent.Employee, sent.Kind)
	if s.lose != nil && s.lose(region, sent.ID) {
		panic(http.ErrAbortHandler)
	}
	_ = json.NewEncoder(w).Encode(receipt) // the client may be gone
}

func (s *service) receipt(r *http.Request, region, id, employee, kind string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.stored[id]; first != nil {
		again := maps.Clone(first)
		again["replayed"] = true
		return again
	}
	now := time.Now().UTC()
	company, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer token-")
	s.stored[id] = map[string]any{
		"id": id, "company": company, "employee": employee, "kind": kind,
		"punched_at": now, "received_at": now, "recorded_at": now, "zone": "UTC", "utc_offset": "+00:00",
		"home_region": homeName(company), "entry_region": region, "marks": []string{},
	}
	return s.stored[id]
}

// homeName returns the home of the companies c0, c1, …
func homeName(company string) string {
	var i int
	if _, err := fmt.Sscanf(company, "c%d", &i); err != nil {
		panic(err)
	}
	return regionNames[i%3]
}

// mustConfig returns a load of about 200 punches in a second, and a new service.
func mustConfig(t *testing.T) (Config, *service) {
	t.Helper()
	s := &service{stored: make(map[string]map[string]any)}
	cfg := Config{Load: Load{Rate: 400, Duration: time.Second, CrossRegion: 0.3, Repeats: 0.2, Seed: 7, MaxInFlight: 1000, TotalTimeout: 20 * time.Second}}
	for _, name := range regionNames {
		cfg.Entries = append(cfg.Entries, cluster.Entry{Region: name, Endpoints: []string{s.start(t, name), s.start(t, name)}})
	}
	for i := range 6 {
		id := fmt.Sprintf("c%d", i)
		cfg.Companies = append(cfg.Companies, cluster.Company{ID: id, Home: homeName(id), Token: "token-" + id})
	}
	return cfg, s
}

// memoryJournal keeps the lines in memory.
type memoryJournal struct {
	mu       sync.Mutex
	intended map[string]int // by id
	settled  int
	failed   int
	err      error
}

func (j *memoryJournal) Intend(_ time.Time, _ string, claim punch.Request) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.intended[claim.ID.String()]++
	return 1, j.err
}

func (j *memoryJournal) Settle(_ uint64, _ punch.Receipt, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.settled++
	if err != nil {
		j.failed++
	}
	return nil
}

func (j *memoryJournal) has(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.intended[id] > 0
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestRush(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	journal := &memoryJournal{intended: make(map[string]int)}
	cfg.Journal = journal
	s.before = func(_, id string) bool {
		if !journal.has(id) {
			t.Errorf("%s was sent before it was in the journal", id)
		}
		return true
	}
	var reports []Progress
	cfg.Progress = func(p Progress) { reports = append(reports, p) }
	r, err := Run(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent < 100 || r.Acknowledged != r.Sent || r.Acknowledged != len(s.stored) || r.Dropped != 0 || r.Void() != nil {
		t.Errorf("%d are stored; the result is\n%s", len(s.stored), &r)
	}
	if r.Repeated == 0 || r.RepeatsWrong != 0 || journal.settled != r.Sent+r.Repeated || journal.failed != 0 {
		t.Errorf("the journal has %d outcomes, %d failed; the result is\n%s", journal.settled, journal.failed, &r)
	}
	var sum Counts
	for _, region := range r.Regions {
		sum.Sent += region.Sent
		sum.Crossed += region.Crossed
		if region.Sent == 0 || region.P50 <= 0 || region.Max < region.P99 || region.P99 < region.P50 {
			t.Errorf("%+v", region)
		}
	}
	if sum.Sent != r.Sent || sum.Crossed != r.Crossed || r.Crossed == 0 || r.Crossed == r.Sent || r.Rate <= 0 {
		t.Errorf("the regions do not add up:\n%s", &r)
	}
	if last := reports[len(reports)-1]; !last.Done || last.Settled != last.Planned || last.Acknowledged != r.Acknowledged {
		t.Errorf("the last progress is %+v", last)
	}
}

// TestSendingDoesNotWaitForAnswers holds all answers back until many punches are under way. A generator that waits for
// answers never has so many.
func TestSendingDoesNotWaitForAnswers(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	cfg.Load.Repeats = 0
	const enough = 60
	var mu sync.Mutex
	waiting, release := 0, make(chan struct{})
	began := time.Now()
	var released time.Duration
	s.before = func(_, _ string) bool {
		mu.Lock()
		if waiting++; waiting == enough {
			released = time.Since(began)
			close(release)
		}
		mu.Unlock()
		<-release
		return true
	}
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Acknowledged != r.Sent || r.Unresolved != 0 {
		t.Fatalf("%v\n%s", err, &r)
	}
	// The first punch waited for all others, so its latency is at least that long.
	if r.Max < released/2 {
		t.Errorf("answers were held back for up to %s, the longest latency is %s", released, r.Max)
	}
}

func TestALostAnswerIsRetriedUnderTheSameID(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	var mu sync.Mutex
	cut := make(map[string]bool)
	s.lose = func(region, id string) bool {
		mu.Lock()
		defer mu.Unlock()
		if region != "us-east" || cut[id] {
			return false
		}
		cut[id] = true
		return true
	}
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Acknowledged != r.Sent || r.Retries == 0 || len(s.stored) != r.Sent {
		t.Errorf("%v; %d are stored\n%s", err, len(s.stored), &r)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	s.status = func(id string) int {
		if strings.HasSuffix(id, "0") {
			return http.StatusBadRequest
		}
		return 0
	}
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Refused == 0 || r.Refused+r.Acknowledged != r.Sent || r.Codes["invalid"] != r.Refused {
		t.Errorf("%v\n%s", err, &r)
	}
}

func TestWhatStaysWithoutAnAnswerIsUnresolved(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	cfg.Load.TotalTimeout = 50 * time.Millisecond
	s.before = func(_, _ string) bool { return false }
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Unresolved != r.Sent || r.Sent == 0 || r.Codes["unavailable"] != r.Sent {
		t.Errorf("%v\n%s", err, &r)
	}
}

func TestAGeneratorThatCannotKeepUpSaysSo(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	cfg.Load.MaxInFlight = 2
	release := make(chan struct{})
	time.AfterFunc(500*time.Millisecond, func() { close(release) })
	s.before = func(_, _ string) bool { <-release; return true }
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Dropped == 0 || !errors.Is(r.Void(), ErrVoid) || !strings.Contains(r.String(), "VOID") {
		t.Errorf("%v\n%s", err, &r)
	}
}

func TestAJournalThatFailsEndsTheRun(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	full := errors.New("no space left on device")
	cfg.Journal = &memoryJournal{intended: make(map[string]int), err: full}
	r, err := Run(bounded(t), cfg)
	if !errors.Is(err, full) || len(s.stored) != 0 {
		t.Errorf("%v; %d punches were sent without a line in the journal\n%s", err, len(s.stored), &r)
	}
}

func TestAnInterruptedRunReturnsWhatItHas(t *testing.T) {
	t.Parallel()
	cfg, s := mustConfig(t)
	cfg.Load.Rate, cfg.Load.Duration = 1000, 30*time.Second
	ctx, cancel := context.WithCancel(bounded(t))
	var once sync.Once
	s.before = func(_, _ string) bool { once.Do(cancel); return true }
	began := time.Now()
	r, err := Run(ctx, cfg)
	if !errors.Is(err, context.Canceled) || r.Sent == 0 || time.Since(began) > 25*time.Second {
		t.Errorf("%v after %s\n%s", err, time.Since(began), &r)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"load":            func(c *Config) { c.Load.Rate = 0 },
		"no regions":      func(c *Config) { c.Entries = nil },
		"no companies":    func(c *Config) { c.Companies = nil },
		"no endpoint":     func(c *Config) { c.Entries[0].Endpoints = nil },
		"wrong endpoint":  func(c *Config) { c.Entries[0].Endpoints = []string{"x"} },
		"home of nowhere": func(c *Config) { c.Companies[0].Home = "mars" },
	} {
		cfg, _ := mustConfig(t)
		change(&cfg)
		if _, err := Run(bounded(t), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPlainProgress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	show := ShowProgress(file)
	for i := range 101 {
		show(Progress{Planned: 100, Settled: i, Acknowledged: i, Elapsed: time.Duration(i) * 100 * time.Millisecond, Duration: 10 * time.Second, Done: i == 100})
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); err != nil || len(lines) != 3 || !strings.Contains(lines[2], "100 of 100") {
		t.Errorf("%v, want a line at 0, 5 and 10 s:\n%s", err, text)
	}
}
