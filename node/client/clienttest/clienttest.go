// Package clienttest serves the real HTTP API from memory, for tests of clients. It has no network between nodes, no
// database and no regions.
package clienttest

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/httpapi"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Token is the only valid token. It belongs to a manager of Company.
const (
	Token   = "secret"
	Company = "acme"
)

// maxFutureSkew is the default of a node.
const maxFutureSkew = 2 * time.Minute

// Service is the storage behind one or several nodes.
type Service struct {
	// Gate and Levels are those of the nodes. By default they let everything in.
	Gate   httpapi.Gate
	Levels httpapi.Levels
	// Work is called for each punch before it is stored. By default storing takes no time.
	Work func()

	mu      sync.Mutex // guards the fields below
	stored  map[punch.Key]punch.Stored
	trouble Trouble
}

// Trouble is what a service does instead of its work. The zero value is none.
type Trouble struct {
	// Refusal answers every punch. Examples are punch.Overloaded, punch.RateLimited and punch.Unavailable, each with a
	// RetryAfter. A negative RetryAfter asks the device to go elsewhere at once.
	Refusal *punch.Error
	// Reset closes every connection without an answer, as a node does that refuses before TLS.
	Reset bool
	// UploadAfter is on every answer, in whole seconds, if it is not 0.
	UploadAfter time.Duration
}

// Set changes the trouble of all nodes of the service.
func (s *Service) Set(t Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = t
}

func (s *Service) present() Trouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// in wraps the API of a node with the trouble of the service.
func (s *Service) in(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := s.present()
		if t.Reset {
			panic(http.ErrAbortHandler)
		}
		if t.UploadAfter > 0 {
			w.Header().Set("Punchclock-Upload-After", strconv.FormatInt(int64(t.UploadAfter/time.Second), 10))
		}
		api.ServeHTTP(w, r)
	})
}

// NewService makes a service without punches.
func NewService() *Service {
	return &Service{
		Gate: admission.Open{}, Levels: admission.Open{}, Work: func() {}, stored: make(map[punch.Key]punch.Stored),
	}
}

// Recorded reports whether the service has a punch of Company.
func (s *Service) Recorded(employee string, id punch.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.stored[punch.Key{Company: Company, Employee: employee, ID: id}]
	return found
}

// MustServe starts a node with that name and clock, and returns its URL.
func (s *Service) MustServe(tb testing.TB, node string, clock func() time.Time) (url string) {
	tb.Helper()
	server := httptest.NewServer(s.MustHandler(tb, node, clock))
	tb.Cleanup(server.Close)
	return server.URL
}

// MustHandler returns the API of a node with that name and clock.
func (s *Service) MustHandler(tb testing.TB, node string, clock func() time.Time) http.Handler {
	tb.Helper()
	handler, err := s.Handler(node, clock)
	if err != nil {
		tb.Fatal(err)
	}
	return handler
}

// Handler is MustHandler for examples, which have no testing.TB.
func (s *Service) Handler(node string, clock func() time.Time) (http.Handler, error) {
	cluster := new(region.Cluster)
	cluster.Set(region.NewView("us-east-n1", []region.Member{
		{Node: "us-east-n1", Region: "us-east", State: region.Ready, PublicURL: "http://us-east.example/"},
		{Node: "eu-west-n1", Region: "eu-west", State: region.Ready, PublicURL: "http://eu-west.example"},
		{Node: "ap-south-n1", Region: "ap-south", State: region.Draining, PublicURL: "http://ap-south.example"},
	}))
	api, err := httpapi.New(
		httpapi.Config{Node: node, Region: "us-east", PunchTimeout: 10 * time.Second, MaxBody: 1 << 20},
		httpapi.Deps{
			Gate: s.Gate, Levels: s.Levels, Recorder: recorder{s, clock}, Reader: s, Auth: manager{}, Cluster: cluster, Clock: clock, Log: slog.New(slog.DiscardHandler),
			Draining: func() bool { return false }, ClockWrong: func() bool { return false },
			Tracer: tracenoop.NewTracerProvider(), Meter: metricnoop.NewMeterProvider(),
		})
	return s.in(api), err
}

// recorder is a Service as one node sees it.
type recorder struct {
	*Service
	clock func() time.Time
}

// Record implements punch.Recorder.
func (r recorder) Record(_ context.Context, p punch.Punch) (punch.Receipt, error) {
	r.Work()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble.Refusal != nil {
		return punch.Receipt{}, r.trouble.Refusal
	}
	if old, ok := r.stored[p.Key()]; ok {
		return old.Resolve(&p)
	}
	if err := p.CheckClock(maxFutureSkew); err != nil {
		return punch.Receipt{}, err
	}
	p.Route = punch.Route{HomeRegion: "eu-west", Zone: "Asia/Kolkata", UTCOffset: 19800}
	stored := punch.Stored{Receipt: p.Receipt(punch.Microseconds(r.clock()))}
	r.stored[p.Key()] = stored
	return stored.Receipt, nil
}

// Find implements httpapi.Reader.
func (s *Service) Find(_ context.Context, key punch.Key) (punch.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored, ok := s.stored[key]; ok {
		return stored.Receipt, nil
	}
	return punch.Receipt{}, punch.Errorf(punch.NotFound, "no such punch")
}

// List implements httpapi.Reader.
func (s *Service) List(_ context.Context, q punch.Query) (found []punch.Receipt, _ error) {
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

// manager accepts Token.
type manager struct{}

// Verify implements httpapi.Authenticator.
// CompanyHint implements httpapi.Authenticator.
func (manager) CompanyHint(string) string { return "" }

func (manager) Verify(_ context.Context, token string) (auth.Identity, error) {
	if token != Token {
		return auth.Identity{}, punch.Errorf(punch.Unauthenticated, "the token is invalid")
	}
	return auth.Identity{Company: Company, Subject: "m", Role: auth.Manager}, nil
}
