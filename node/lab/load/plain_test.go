package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// mustPlain is mustConfig with plain clients.
func mustPlain(t *testing.T) (Config, *service) {
	t.Helper()
	cfg, s := mustConfig(t)
	cfg.Stress = Stress{Client: Plain, Presses: 4}
	return cfg, s
}

func TestPlainRush(t *testing.T) {
	t.Parallel()
	for _, withJournal := range []bool{true, false} {
		cfg, s := mustPlain(t)
		journal := &memoryJournal{intended: make(map[string]int)}
		if withJournal {
			cfg.Journal = journal
			s.before = func(_, id string) bool {
				if !journal.has(id) {
					t.Errorf("%s was sent before it was in the journal", id)
				}
				return true
			}
		}
		r, err := Run(bounded(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if r.Sent < 100 || r.Acknowledged != r.Sent || r.Acknowledged != len(s.stored) || r.Dropped+r.LocalErrors+r.Retries != 0 {
			t.Errorf("%d are stored; the result is\n%s", len(s.stored), &r)
		}
		// A repeat that is due in the end of the run stays unsent.
		if r.Repeated == 0 || r.RepeatsWrong != 0 || withJournal && journal.settled != r.Sent+r.Repeated || journal.failed != 0 {
			t.Errorf("the journal has %d outcomes, %d failed; the result is\n%s", journal.settled, journal.failed, &r)
		}
		if r.Crossed == 0 || r.Crossed == r.Sent || r.Presses.Sent != r.Sent || r.Presses.Acknowledged != r.Sent {
			t.Errorf("the presses do not add up: %+v\n%s", r.Presses, &r)
		}
		seconds := 0
		for _, second := range r.Series {
			seconds += second.Acknowledged
		}
		if seconds != r.Acknowledged || r.CPU.Seconds <= 0 {
			t.Errorf("the seconds have %d of %d acknowledged punches; CPU %s", seconds, r.Acknowledged, &r.CPU)
		}
	}
}

// TestImpatientCallersPressAgain lets every first press wait in vain. The callers must close their connections, and press
// again with the same id.
func TestImpatientCallersPressAgain(t *testing.T) {
	t.Parallel()
	cfg, s := mustPlain(t)
	cfg.Load.Repeats = 0
	cfg.Stress.Impatience = 150 * time.Millisecond
	var mu sync.Mutex
	pressed := make(map[string]bool)
	left := make(chan struct{})
	t.Cleanup(func() { close(left) })
	s.before = func(_, id string) bool {
		mu.Lock()
		again := pressed[id]
		pressed[id] = true
		mu.Unlock()
		if !again {
			<-left
		}
		return again
	}
	r, err := Run(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Presses.GaveUp < r.Sent || r.Acknowledged == 0 || r.Acknowledged+r.Unresolved != r.Sent || r.Acknowledged > len(s.stored) {
		t.Errorf("%d are stored, presses %+v\n%s", len(s.stored), r.Presses, &r)
	}
	if p := r.Presses; p.Sent != p.Acknowledged+p.GaveUp+p.NoAnswer {
		t.Errorf("the presses do not add up: %+v", p)
	}
}

// TestManners refuses each first press. Polite callers come after Retry-After, and a stampede comes at once.
func TestManners(t *testing.T) {
	t.Parallel()
	for _, stampede := range []bool{false, true} {
		cfg, _ := mustPlain(t)
		cfg.Load.Rate, cfg.Load.Duration, cfg.Load.Steady, cfg.Load.Repeats = 50, 3*time.Second, true, 0
		cfg.Stress.Impatience, cfg.Stress.Stampede = 10*time.Second, stampede
		var mu sync.Mutex
		first := make(map[string]time.Time)
		shortest := time.Hour
		refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var sent struct{ ID string }
			_ = json.NewDecoder(r.Body).Decode(&sent) // the client may be gone
			mu.Lock()
			defer mu.Unlock()
			began, again := first[sent.ID]
			if !again {
				first[sent.ID] = time.Now()
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprint(w, `{"code":"overloaded"}`)
				return
			}
			shortest = min(shortest, time.Since(began))
			_, _ = fmt.Fprintf(w, `{"id":%q}`, sent.ID)
		}))
		t.Cleanup(refusing.Close)
		for i := range cfg.Entries {
			cfg.Entries[i].Endpoints = []string{refusing.URL}
		}
		r, err := Run(bounded(t), cfg)
		if err != nil || r.Acknowledged == 0 || r.Presses.Refused[503] != r.Sent || r.Presses.NoAnswer+r.Presses.GaveUp != 0 {
			t.Fatalf("%v, presses %+v\n%s", err, r.Presses, &r)
		}
		if polite := shortest >= time.Second; polite == stampede {
			t.Errorf("stampede %t: the earliest second press came after %s", stampede, shortest)
		}
		if refusals := r.Series[0].Refused[503]; refusals != r.Series[0].Sent-r.Series[0].Acknowledged || refusals == 0 {
			t.Errorf("the first second: %+v", r.Series[0])
		}
	}
}

// TestReconnectingCallers refuses each first press in one region, and another region is dead. A refused caller comes back
// on a new connection. A caller without a connection goes to the next region, with the same id.
func TestReconnectingCallers(t *testing.T) {
	t.Parallel()
	cfg, s := mustPlain(t)
	cfg.Load.Rate, cfg.Load.Duration, cfg.Load.Steady = 50, 3*time.Second, true
	cfg.Load.Repeats, cfg.Load.CrossRegion = 0, 0
	cfg.Stress.Impatience, cfg.Stress.Stampede, cfg.Stress.Reconnect = 10*time.Second, true, true
	var mu sync.Mutex
	pressed := make(map[string]bool)
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, regionNames[0]) }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	s.status = func(id string) int {
		mu.Lock()
		defer mu.Unlock()
		if !pressed[id] {
			pressed[id] = true
			return http.StatusServiceUnavailable
		}
		return 0
	}
	s.code = "overloaded"
	const dead = "http://127.0.0.1:1" // refuses connections; a port that a server has left might get another server
	cfg.Entries[0].Endpoints = []string{server.URL}
	cfg.Entries[1].Endpoints = []string{server.URL}
	cfg.Entries[2].Endpoints = []string{dead} // its callers go on to the first region
	r, err := Run(bounded(t), cfg)
	// A press that is due when the run ends stays unsent.
	if err != nil || r.Regions[0].Acknowledged == 0 || r.Regions[2].Acknowledged == 0 || r.Acknowledged+r.Unresolved != r.Sent ||
		r.Presses.NoAnswer != r.Regions[2].Sent {
		t.Fatalf("%v, presses %+v\n%s", err, r.Presses, &r)
	}
	if again := r.Presses.Sent - r.Sent - r.Regions[2].Sent; int(opened.Load()) < again {
		t.Errorf("%d presses came again on %d connections", again, opened.Load())
	}
}

// TestConnectionsAreReused counts connections. A node that closes some of them must cost no punch.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	cfg, s := mustPlain(t)
	cfg.Load.Repeats, cfg.Load.CrossRegion = 0, 0
	cfg.Load.Rate, cfg.Load.Duration = 100, 3*time.Second // few punches a second at the begin and at the end
	var opened, requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) % 50 {
		case 10:
			w.Header().Set("Connection", "close")
		case 20:
			w.Header().Set("Transfer-Encoding", "chunked") // net/http then sends no Content-Length
		}
		s.serve(w, r, regionNames[0])
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.EnableHTTP2 = true // must not be chosen
	server.StartTLS()
	t.Cleanup(server.Close)
	cfg.Roots = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for i := range cfg.Entries {
		cfg.Entries[i].Endpoints = []string{server.URL}
	}
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Acknowledged != r.Sent || r.Sent < 100 {
		t.Fatalf("%v\n%s", err, &r)
	}
	// A client without keep-alive opens one for each punch. On a busy machine many punches are under way at once.
	if n := int(opened.Load()); n >= r.Sent {
		t.Errorf("%d connections for %d punches", n, r.Sent)
	}
}

// TestABrokenConnectionIsNoAnswer lets the node cut half of the presses.
func TestABrokenConnectionIsNoAnswer(t *testing.T) {
	t.Parallel()
	cfg, s := mustPlain(t)
	cfg.Load.Repeats = 0
	s.before = func(_, id string) bool { return !strings.HasSuffix(id, "0") }
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Unresolved == 0 || r.Unresolved+r.Acknowledged != r.Sent || r.Presses.NoAnswer != r.Unresolved {
		t.Errorf("%v, presses %+v\n%s", err, r.Presses, &r)
	}
}

func TestAPlainRunEnds(t *testing.T) {
	t.Parallel()
	t.Run("stopped", func(t *testing.T) {
		cfg, s := mustPlain(t)
		cfg.Load.Duration = 30 * time.Second
		stop := make(chan struct{})
		cfg.Stop = stop
		var once sync.Once
		s.before = func(_, _ string) bool { once.Do(func() { close(stop) }); return true }
		r, err := Run(bounded(t), cfg)
		if err != nil || r.Sent == 0 || r.Acknowledged != r.Sent || r.Took > 25*time.Second {
			t.Errorf("%v\n%s", err, &r)
		}
	})
	t.Run("journal failed", func(t *testing.T) {
		cfg, s := mustPlain(t)
		full := errors.New("no space left on device")
		cfg.Journal = &memoryJournal{intended: make(map[string]int), err: full}
		r, err := Run(bounded(t), cfg)
		if !errors.Is(err, full) || len(s.stored) != 0 {
			t.Errorf("%v; %d punches were sent without a line in the journal\n%s", err, len(s.stored), &r)
		}
	})
	t.Run("no listener", func(t *testing.T) {
		cfg, _ := mustPlain(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		url := "http://" + listener.Addr().String()
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range cfg.Entries {
			cfg.Entries[i].Endpoints = []string{url}
		}
		r, err := Run(bounded(t), cfg)
		if err != nil || r.Unresolved != r.Sent || r.Presses.NoAnswer != r.Sent || r.Void() != nil && r.LocalErrors > 0 {
			t.Errorf("%v\n%s", err, &r)
		}
	})
	t.Run("too many in flight", func(t *testing.T) {
		cfg, s := mustPlain(t)
		cfg.Load.MaxInFlight = 2
		release := make(chan struct{})
		time.AfterFunc(500*time.Millisecond, func() { close(release) })
		s.before = func(_, _ string) bool { <-release; return true }
		r, err := Run(bounded(t), cfg)
		if err != nil || r.Dropped == 0 || !errors.Is(r.Void(), ErrVoid) {
			t.Errorf("%v\n%s", err, &r)
		}
	})
}

// TestAFlood lets one company send most punches. The result must report the others apart.
func TestAFlood(t *testing.T) {
	t.Parallel()
	cfg, s := mustPlain(t)
	cfg.Stress.Flood, cfg.Stress.FloodShare = "c2", 0.8
	s.status = func(string) int { return 0 }
	r, err := Run(bounded(t), cfg)
	if err != nil || r.Flood == nil || r.Others == nil {
		t.Fatalf("%v\n%s", err, &r)
	}
	share := float64(r.Flood.Sent) / float64(r.Sent)
	if share < 0.65 || share > 0.95 || r.Flood.Sent+r.Others.Sent != r.Sent || r.Others.Acknowledged != r.Others.Sent || r.Others.P99 <= 0 {
		t.Errorf("the flood is %.2f of all: %+v, others %+v", share, r.Flood, r.Others)
	}
	cfg.Stress.Flood = "no such company"
	if _, err := Run(bounded(t), cfg); err == nil {
		t.Error("an unknown company of --flood was accepted")
	}
}

// FuzzReadAnswer gives the reader of answers any bytes. It must not accept half an answer.
func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 201 Created\r\nContent-Length: 2\r\nRetry-After: 3\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 204 No Content\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := &conn{reader: bufio.NewReader(bytes.NewReader(text))}
		o, err := c.read()
		if err != nil {
			return
		}
		if o.status < 200 || o.status > 999 || len(o.body) > maxBody || o.retryAfter < 0 {
			t.Fatalf("%q: %+v", text, o)
		}
		if code, final := o.problem(); code == "" || final && o.status == 0 {
			t.Fatalf("%q: %q", text, code)
		}
	})
}

func TestPressesAndPlan(t *testing.T) {
	for name, change := range map[string]func(*Stress){
		"client":                    func(s *Stress) { s.Client = "curl" },
		"negative impatience":       func(s *Stress) { s.Impatience = -1 },
		"impatience with reference": func(s *Stress) { s.Client, s.Impatience = Reference, time.Second },
		"no presses":                func(s *Stress) { s.Stampede, s.Presses = true, 0 },
		"nobody to reconnect":       func(s *Stress) { s.Reconnect = true },
		"share":                     func(s *Stress) { s.Flood, s.FloodShare = "c", 1.5 },
		"overload":                  func(s *Stress) { s.Overload = -1 },
		"for":                       func(s *Stress) { s.Overload, s.For = 2, time.Millisecond },
	} {
		s := Stress{Client: Plain, Presses: 4, FloodShare: 0.8, For: time.Minute}
		if err := s.validate(); err != nil {
			t.Fatal(err)
		}
		if change(&s); s.validate() == nil {
			t.Errorf("%s: accepted: %+v", name, s)
		}
	}
	l := defaultLoad()
	l.Rate, l.Duration = 100, 10*time.Second
	counts := make(map[string]int)
	employees := make(map[int32]bool)
	list := []cluster.Company{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	arrivals := plan(l, Stress{Overload: 5, For: 20 * time.Second, Flood: "b", FloodShare: 0.5}, 3, list, homeOf)
	for _, a := range arrivals {
		switch {
		case a.at < l.Duration:
			counts["before"]++
		case a.at < 30*time.Second:
			counts["overload"]++
		case a.at <= 40*time.Second:
			counts["after"]++
		default:
			t.Fatalf("an arrival at %s", a.at)
		}
		if a.company == 1 {
			counts["flood"]++
			employees[a.employee] = true
		}
	}
	for name, want := range map[string]int{"before": 1000, "overload": 10_000, "after": 1000, "flood": 6000} {
		if got := counts[name]; got < want*8/10 || got > want*12/10 {
			t.Errorf("%s: %d arrivals, want about %d (%v)", name, got, want, maps.Collect(maps.All(counts)))
		}
	}
	// 250 punches a second of one company: no employee punches twice within the run.
	if len(employees) != counts["flood"] {
		t.Errorf("%d employees for %d punches of the flood", len(employees), counts["flood"])
	}
}
