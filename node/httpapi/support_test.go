package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is the node's clock in all tests.
var now = time.Date(2026, 3, 1, 8, 0, 0, 123456789, time.UTC)

// store is a Recorder and Reader that keeps receipts in memory.
type store struct {
	mu       sync.Mutex
	receipts map[punch.Key]punch.Receipt
	punches  []punch.Punch // as they came

	// fail, if it is set, is called first.
	fail func(ctx context.Context, employee string) error
}

func newStore() *store {
	return &store{receipts: map[punch.Key]punch.Receipt{}}
}

func (s *store) Record(ctx context.Context, p punch.Punch) (punch.Receipt, error) {
	if s.fail != nil {
		if err := s.fail(ctx, p.Employee); err != nil {
			return punch.Receipt{}, err
		}
	}
	p.Route = punch.Route{HomeRegion: "eu-west", Zone: "Europe/Berlin", UTCOffset: 3600}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.punches = append(s.punches, p)
	if old, ok := s.receipts[p.Key()]; ok {
		stored := punch.Stored{Receipt: old}
		return stored.Resolve(&p)
	}
	receipt := p.Receipt(now.Add(6 * time.Millisecond))
	s.receipts[p.Key()] = receipt
	return receipt, nil
}

func (s *store) Find(ctx context.Context, key punch.Key) (punch.Receipt, error) {
	if s.fail != nil {
		if err := s.fail(ctx, key.Employee); err != nil {
			return punch.Receipt{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.receipts[key]; ok {
		return r, nil
	}
	return punch.Receipt{}, punch.Errorf(punch.NotFound, "no punch of this employee has this id")
}

func (s *store) List(ctx context.Context, q punch.Query) ([]punch.Receipt, error) {
	if s.fail != nil {
		if err := s.fail(ctx, q.Employee); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []punch.Receipt
	for key, r := range s.receipts {
		if key.Company != q.Company || key.Employee != q.Employee || r.PunchedAt.Before(q.From) || !r.PunchedAt.Before(q.To) {
			continue
		}
		if q.After == (punch.Cursor{}) || order(punch.Cursor{PunchedAt: r.PunchedAt, ID: r.ID}, q.After) > 0 {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b punch.Receipt) int {
		return order(punch.Cursor{PunchedAt: a.PunchedAt, ID: a.ID}, punch.Cursor{PunchedAt: b.PunchedAt, ID: b.ID})
	})
	return found[:min(len(found), q.Limit)], nil
}

func order(a, b punch.Cursor) int {
	return cmp.Or(a.PunchedAt.Compare(b.PunchedAt), bytes.Compare(a.ID[:], b.ID[:]))
}

// harness is the API on a real server, with a real Verifier.
type harness struct {
	*API
	store   *store
	cluster *region.Cluster
	spans   *tracetest.SpanRecorder
	metrics *sdkmetric.ManualReader
	url     string
	client  *http.Client
	key     auth.DevelopmentKey
	log     lockedBuffer
	away    atomic.Bool // not ready

	draining, clockWrong atomic.Bool
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const (
	testIssuer   = "issuer"
	testAudience = "punchclock"
)

func newHarness(tb testing.TB, changes ...func(*Config, *Deps)) *harness {
	tb.Helper()
	h := &harness{store: newStore(), cluster: &region.Cluster{}, spans: tracetest.NewSpanRecorder(), metrics: sdkmetric.NewManualReader()}
	cfg := Config{Node: "us-east-n1-x", Region: "us-east", PunchTimeout: 15 * time.Second, MaxBody: 1 << 20}
	deps := Deps{
		Gate: admission.Open{}, Levels: admission.Open{}, Recorder: h.store, Reader: h.store, Auth: h.mustVerifier(tb), Cluster: h.cluster,
		Ready:    func() bool { return !h.away.Load() },
		Draining: h.draining.Load, ClockWrong: h.clockWrong.Load,
		Clock: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&h.log, nil)),
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(h.spans)),
		Meter:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(h.metrics)),
	}
	for _, change := range changes {
		change(&cfg, &deps)
	}
	var err error
	if h.API, err = New(cfg, deps); err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(h.API)
	tb.Cleanup(srv.Close)
	h.url, h.client = srv.URL, srv.Client()
	return h
}

func (h *harness) mustVerifier(tb testing.TB) *auth.Verifier {
	tb.Helper()
	var err error
	if h.key, err = auth.NewDevelopmentKey(); err != nil {
		tb.Fatal(err)
	}
	jwks := filepath.Join(tb.TempDir(), "jwks.json")
	if err := h.key.WriteJWKS(jwks); err != nil {
		tb.Fatal(err)
	}
	v, err := auth.New(auth.Config{JWKS: jwks, Issuer: testIssuer, Audience: testAudience, Development: true},
		auth.Deps{Log: slog.New(slog.DiscardHandler), Meter: sdkmetric.NewMeterProvider(), Clock: func() time.Time { return now }})
	if err != nil {
		tb.Fatal(err)
	}
	if err := v.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(v.Close)
	return v
}

// as returns an Authorization header for a caller of company acme.
func (h *harness) as(tb testing.TB, role auth.Role, subject string) string {
	tb.Helper()
	token, err := h.key.Sign(auth.Claims{
		Company: "acme", Subject: subject, Role: role,
		Issuer: testIssuer, Audience: testAudience, TTL: time.Hour,
	}, now)
	if err != nil {
		tb.Fatal(err)
	}
	return "Bearer " + token
}

// request is one call with its headers.
type request struct {
	method, path, body string
	authorization      string
	header             http.Header
	reader             io.Reader // instead of body
}

type response struct {
	status int
	header http.Header
	body   []byte
}

// send makes the call, checks the answer against openapi.yaml, and returns it.
func (h *harness) send(tb testing.TB, r request) response {
	tb.Helper()
	body := r.reader
	if body == nil {
		body = strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(tb.Context(), r.method, h.url+r.path, body)
	if err != nil {
		tb.Fatal(err)
	}
	if r.method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.authorization != "" {
		req.Header.Set("Authorization", r.authorization)
	}
	maps.Copy(req.Header, r.header)
	got := h.do(tb, req, r.reader != nil)
	if r.method != http.MethodHead { // openapi.yaml leaves it to HTTP
		holdToDocument(tb, r, got)
	}
	return got
}

// do sends the request over the wire. A request that no client would send, such as a body that breaks off, goes directly
// to the handler.
func (h *harness) do(tb testing.TB, req *http.Request, straight bool) response {
	tb.Helper()
	if straight {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return response{w.Code, w.Header(), w.Body.Bytes()}
	}
	resp, err := h.client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, body}
}

// mustDecode decodes the body of an answer.
func mustDecode[T any](tb testing.TB, b []byte) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal(b, &v, strict); err != nil {
		tb.Fatalf("%v in %s", err, b)
	}
	return v
}

// wireReceipt is a receipt as openapi.yaml has it.
type wireReceipt struct {
	ID          string   `json:"id"`
	Company     string   `json:"company"`
	Employee    string   `json:"employee"`
	Kind        string   `json:"kind"`
	PunchedAt   string   `json:"punched_at"`
	ReceivedAt  string   `json:"received_at"`
	RecordedAt  string   `json:"recorded_at"`
	Zone        string   `json:"zone"`
	UTCOffset   string   `json:"utc_offset"`
	HomeRegion  string   `json:"home_region"`
	EntryRegion string   `json:"entry_region"`
	Marks       []string `json:"marks"`
	TraceID     string   `json:"trace_id"`
	Replayed    bool     `json:"replayed"`
}

func (r response) problem(tb testing.TB) wireProblem {
	tb.Helper()
	return mustDecode[wireProblem](tb, r.body)
}

func (r response) receipt(tb testing.TB) wireReceipt {
	tb.Helper()
	if r.status != http.StatusCreated && r.status != http.StatusOK {
		tb.Fatalf("status %d, want a receipt: %s", r.status, r.body)
	}
	return mustDecode[wireReceipt](tb, r.body)
}

// idAt makes an id for the test's clock.
func idAt(d time.Duration) string { return punch.IDAt(now.Add(d)).String() }

// eventually polls until ok returns true, for at most 20 s.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("did not happen within 20 s: %s", what)
		}
	}
}
