package crdb

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// The same tests run on every engine of this machine.
var databases []*cluster.Database

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, engine := range cluster.Engines() {
		db, err := cluster.StartDatabase(ctx, cluster.Config{Engine: engine.Name})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer db.Stop(context.Background()) //nolint:errcheck // the tests have reported
		if _, err := Migrate(ctx, db.URL("us-east"), regions, slog.New(slog.DiscardHandler)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		databases = append(databases, db)
	}
	if len(databases) == 0 {
		fmt.Fprintln(os.Stderr, "no database engine was found: run scripts/setup")
		return 1
	}
	// Most tests wait for the database or for a timeout. The command line may still say otherwise.
	_ = flag.Set("test.parallel", "3") // the name is a constant of the testing package
	return m.Run()
}

var regions = []string{"us-east", "eu-west", "ap-south"}

// onEveryEngine runs a test on each engine in parallel. The test has three minutes.
func onEveryEngine(t *testing.T, test func(t *testing.T, s *store)) {
	t.Parallel()
	for _, db := range databases {
		t.Run(db.Engine, func(t *testing.T) {
			t.Parallel()
			t.Logf("on %s", db.Version)
			test(t, mustOpen(t, db, db.URL("us-east")))
		})
	}
}

// store is a database with tools for the tests.
type store struct {
	*DB
	tb     testing.TB
	ctx    context.Context
	server *cluster.Database
	admin  *pgx.Conn
}

func mustOpen(tb testing.TB, server *cluster.Database, url string) *store {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	tb.Cleanup(cancel)
	db, err := Open(ctx, testConfig(url), testDeps())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	admin, err := pgx.Connect(ctx, server.URLOf(mustParse(tb, url).Database, "us-east"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = admin.Close(context.Background()) })
	return &store{DB: db, tb: tb, ctx: ctx, server: server, admin: admin}
}

func testConfig(url string) Config {
	return Config{URL: url, ConnectionsPerHome: 4, ReadConnections: 4, ConnectTimeout: 2 * time.Second, AttemptTimeout: 5 * time.Second}
}

func testDeps() Deps {
	return Deps{Log: slog.New(slog.DiscardHandler), Meter: metricnoop.NewMeterProvider(), Tracer: tracenoop.NewTracerProvider()}
}

// mustOpenWith opens the same database with another configuration.
func (s *store) mustOpenWith(cfg Config, deps Deps) *DB {
	s.tb.Helper()
	db, err := Open(s.ctx, cfg, deps)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(db.Close)
	return db
}

// logs collects log lines.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) deps() Deps {
	deps := testDeps()
	deps.Log = slog.New(slog.NewTextHandler(l, nil))
	return deps
}

// await polls until done, for at most 20 s.
func await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("timeout while waiting until %s", what)
		}
	}
}

// company creates a company for the test and returns its id.
func (s *store) company(home string) string {
	return s.companyWithID("c-"+punch.NewID().String(), home)
}

func (s *store) companyWithID(id, home string) string {
	s.tb.Helper()
	c := Company{ID: id, Name: s.tb.Name(), HomeRegion: home, TimeZone: "Europe/Berlin"}
	outcomes, err := s.CreateCompanies(s.ctx, []Company{c})
	if err != nil || outcomes[0] != nil {
		s.tb.Fatalf("create %v: %v, %v", c, err, outcomes)
	}
	return c.ID
}

// item makes a punch as dispatch does.
func (s *store) item(company, home, employee string) punch.Item {
	p := punch.Stamped(punch.Request{Company: company, Employee: employee, ID: punch.NewID(), Kind: punch.In},
		time.Now(), "eu-west", fmt.Sprintf("%032x", time.Now().UnixNano()))
	p.Route = punch.Route{HomeRegion: home, Epoch: 1, Zone: "Europe/Berlin", UTCOffset: 3600}
	return punch.Item{Ctx: s.ctx, Punch: p}
}

// count returns the number that a query selects.
func (s *store) count(query string, args ...any) (n int) {
	s.tb.Helper()
	if err := s.admin.QueryRow(s.ctx, query, args...).Scan(&n); err != nil {
		s.tb.Fatalf("%s: %v", query, err)
	}
	return n
}

func (s *store) exec(sql string, args ...any) {
	s.tb.Helper()
	if _, err := s.admin.Exec(s.ctx, sql, args...); err != nil {
		s.tb.Fatalf("%s: %v", sql, err)
	}
}

func wantCode(tb testing.TB, o punch.Outcome, want punch.Code) {
	tb.Helper()
	if got := punch.CodeOf(o.Err); got != want {
		tb.Fatalf("outcome is %q (%v), want %q", got, o.Err, want)
	}
}

func TestLeaks(t *testing.T) {
	// The goroutines of the test databases live until the last test. All goroutines of a DB must end with it.
	before := goleak.IgnoreCurrent()
	db, err := Open(context.Background(), testConfig(databases[0].URL("us-east")), testDeps())
	if err != nil {
		t.Fatal(err)
	}
	db.Writer("us-east").Write(context.Background(), nil)
	db.Close()
	goleak.VerifyNone(t, before)
}

func mustParse(tb testing.TB, dsn string) *pgx.ConnConfig {
	tb.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}
