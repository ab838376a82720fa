package rehome_test

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

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/rehome"
	"github.com/punchclock/punchclock/region"
)

// The tests run on every engine of this machine. CockroachDB has servers in a fourth region, which only some databases
// use.
var (
	databases []*cluster.Database
	regions   = []string{"us-east", "eu-west", "ap-south"}
)

const fourth = "eu-north"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(mainFunc(func() int { return testMain(m) }))
}

// mainFunc makes goleak wait until the databases have stopped.
type mainFunc func() int

func (f mainFunc) Run() int { return f() }

func testMain(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, engine := range cluster.Engines() {
		db, err := cluster.StartDatabase(ctx, cluster.Config{Engine: engine.Name, Regions: append(regions[:3:3], fourth)})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer db.Stop(context.Background()) //nolint:errcheck // the tests have reported
		if _, err := crdb.Migrate(ctx, db.URL(regions[0]), regions, discard); err != nil {
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

var discard = slog.New(slog.DiscardHandler)

// onEveryEngine runs a test on each engine in parallel.
func onEveryEngine(t *testing.T, test func(t *testing.T, s *store)) {
	t.Parallel()
	for _, db := range databases {
		t.Run(db.Engine, func(t *testing.T) {
			t.Parallel()
			test(t, mustOpen(t, db, db.URL(regions[0])))
		})
	}
}

// store is a database with tools for the tests.
type store struct {
	*crdb.DB
	t      *testing.T
	ctx    context.Context
	server *cluster.Database
	url    string
	admin  *pgx.Conn
}

func mustOpen(t *testing.T, server *cluster.Database, url string) *store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	s := &store{t: t, ctx: ctx, server: server, url: url}
	s.DB = s.open()
	s.admin = s.connect()
	return s
}

// open opens the database for a node and a mover together.
func (s *store) open() *crdb.DB {
	s.t.Helper()
	db, err := crdb.Open(s.ctx, crdb.Config{
		URL: s.url, ConnectionsPerHome: 4, ReadConnections: 4, MoveConnections: 4,
		ConnectTimeout: 2 * time.Second, AttemptTimeout: 5 * time.Second,
	}, crdb.Deps{Log: discard, Meter: metricnoop.NewMeterProvider(), Tracer: tracenoop.NewTracerProvider()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(db.Close)
	return db
}

func (s *store) connect() *pgx.Conn {
	s.t.Helper()
	cfg, err := pgx.ParseConfig(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(s.ctx, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (s *store) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.admin.Exec(s.ctx, sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

func (s *store) count(query string, args ...any) (n int) {
	s.t.Helper()
	if err := s.admin.QueryRow(s.ctx, query, args...).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// company creates a company for the test and returns its id.
func (s *store) company(home string) string {
	s.t.Helper()
	c := crdb.Company{ID: "c-" + punch.NewID().String(), Name: s.t.Name(), HomeRegion: home, TimeZone: "Europe/Berlin"}
	outcomes, err := s.CreateCompanies(s.ctx, []crdb.Company{c})
	if err != nil || outcomes[0] != nil {
		s.t.Fatalf("create %v: %v, %v", c, err, outcomes)
	}
	return c.ID
}

// item makes a punch as dispatch does, with an id of the given time.
func item(ctx context.Context, m region.Move, employee string, at time.Time) punch.Item {
	p := punch.Stamped(punch.Request{Company: m.Company, Employee: employee, ID: punch.IDAt(at), Kind: punch.In, Note: "ü " + employee},
		time.Now(), "eu-west", fmt.Sprintf("%032x", time.Now().UnixNano()))
	return routed(punch.Item{Ctx: ctx, Punch: p}, m)
}

// routed returns the same request with another route.
func routed(i punch.Item, m region.Move) punch.Item {
	i.Route = punch.Route{HomeRegion: string(m.Home), Epoch: m.Epoch, Zone: "Europe/Berlin", UTCOffset: 3600}
	return i
}

// again returns another request for the same punch with another route.
func again(i punch.Item, m region.Move) punch.Item {
	i.Stamp = punch.Stamp{ReceivedAt: i.ReceivedAt.Add(time.Second), EntryRegion: "ap-south", TraceID: "another"}
	return routed(i, m)
}

func (s *store) where(company string) region.Move {
	s.t.Helper()
	m, err := s.Where(s.ctx, company)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// write records one punch and returns its receipt.
func (s *store) write(i punch.Item) punch.Receipt {
	s.t.Helper()
	o := s.Writer(i.HomeRegion).Write(s.ctx, []punch.Item{i})[0]
	if o.Err != nil {
		s.t.Fatalf("write %s at %s, epoch %d: %v", i.Employee, i.HomeRegion, i.Epoch, o.Err)
	}
	return o.Receipt
}

// fill records n punches of the company, spread over a week. It returns the punches and their receipts.
func (s *store) fill(company string, n int) (items []punch.Item, receipts []punch.Receipt) {
	s.t.Helper()
	m := s.where(company)
	for i := range n {
		items = append(items, item(s.ctx, m, fmt.Sprintf("e%d", i%50), time.Now().Add(-time.Duration(i)*10*time.Minute)))
	}
	for from := 0; from < n; from += 500 {
		for _, o := range s.Writer(string(m.Home)).Write(s.ctx, items[from:min(from+500, n)]) {
			if o.Err != nil {
				s.t.Fatal(o.Err)
			}
			receipts = append(receipts, o.Receipt)
		}
	}
	return items, receipts
}

// wantReceipts repeats all punches with the present route, and wants the first receipts.
func (s *store) wantReceipts(items []punch.Item, receipts []punch.Receipt) {
	s.t.Helper()
	m := s.where(items[0].Company)
	retries := make([]punch.Item, len(items))
	for i := range items {
		retries[i] = again(items[i], m)
	}
	for i, o := range s.Writer(string(m.Home)).Write(s.ctx, retries) {
		want := receipts[i]
		want.Replayed = true
		if o.Err != nil || o.Receipt != want {
			s.t.Fatalf("sent again: %+v, %v\nwant %+v", o.Receipt, o.Err, want)
		}
	}
}

// wantRows checks that the company has n rows in the given region, none elsewhere, and one for each key.
func (s *store) wantRows(company, in string, n int) {
	s.t.Helper()
	const total = `SELECT count(*) FROM punches WHERE company_id = $1`
	all, there := s.count(total, company), s.count(total+` AND crdb_region = $2::text::crdb_internal_region`, company, in)
	distinct := s.count(`SELECT count(*) FROM (SELECT DISTINCT employee_id, punch_id FROM punches WHERE company_id = $1) AS d`, company)
	if all != n || there != n || distinct != n {
		s.t.Fatalf("%d rows, %d of them in %s, %d identities; want %d of each", all, there, in, distinct, n)
	}
}

func (s *store) mover(cfg rehome.Config) *rehome.Mover {
	s.t.Helper()
	return s.moverOn(s.DB, cfg)
}

func (s *store) moverOn(db *crdb.DB, cfg rehome.Config) *rehome.Mover {
	s.t.Helper()
	m, err := rehome.New(cfg, db, rehome.Deps{Log: discard, Meter: metricnoop.NewMeterProvider()})
	if err != nil {
		s.t.Fatal(err) // its settings are constants
	}
	return m
}

func wantCode(t *testing.T, err error, want punch.Code) {
	t.Helper()
	if got := punch.CodeOf(err); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
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
