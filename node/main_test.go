package node_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/node/punch"
)

// The tests share one cluster of six node processes for each engine. A test repairs its damage, and no tests run in
// parallel.
var shared struct {
	mu       sync.Mutex
	dir      string
	binary   string // with the race detector, built for the first cluster
	key      auth.DevelopmentKey
	jwks     string
	sink     *traceview.Server
	clusters map[string]*world
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(mainFunc(func() int { return testMain(m) }))
}

// mainFunc makes goleak run after the clusters have stopped.
type mainFunc func() int

func (f mainFunc) Run() int { return f() }

func testMain(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "punchclock-node-test-")
	if err == nil {
		defer os.RemoveAll(dir) //nolint:errcheck // the system cleans what is left
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for _, w := range shared.clusters {
		if code != 0 {
			w.cluster.Keep()
			fmt.Fprintln(os.Stderr, "logs are kept in", w.cluster.Dir())
		}
		if err := errors.Join(w.close(), w.cluster.Stop(context.Background())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	_ = shared.sink.Close(ctx) // no node is left to send to it
	http.DefaultClient.CloseIdleConnections()
	return code
}

func prepare(dir string) (err error) {
	shared.clusters = make(map[string]*world)
	shared.dir = dir
	if shared.key, err = auth.NewDevelopmentKey(); err != nil {
		return err
	}
	shared.jwks = filepath.Join(dir, "jwks.json")
	if err = shared.key.WriteJWKS(shared.jwks); err != nil {
		return err
	}
	shared.sink, err = traceview.Start("127.0.0.1:0", traceview.DefaultConfig())
	return err
}

var regions = []string{"us-east", "eu-west", "ap-south"}

// world is a running cluster with connections to its database.
type world struct {
	cluster *cluster.Cluster
	db      *pgxpool.Pool
	store   *crdb.DB
}

func (w *world) close() error {
	w.db.Close()
	w.store.Close()
	return nil
}

// onEveryEngine runs a test against the shared cluster of each engine that cluster.TestEngines chooses.
func onEveryEngine(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, e := range mustEngines(t) {
		t.Run(e.Name, func(t *testing.T) { test(t, mustWorld(t, e)) })
	}
}

// onOneEngine runs a test whose result does not depend on the database.
func onOneEngine(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	test(t, mustWorld(t, mustEngines(t)[0]))
}

func mustEngines(t *testing.T) []cluster.Engine {
	t.Helper()
	list := testEngines()
	if len(list) == 0 {
		t.Fatal("no database engine was found: run scripts/setup")
	}
	return list
}

// testEngines looks once. Each look runs the engines to learn their versions.
var testEngines = sync.OnceValue(cluster.TestEngines)

func mustWorld(t *testing.T, e cluster.Engine) *world {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if w := shared.clusters[e.Name]; w != nil {
		return w
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if shared.binary == "" {
		var err error
		if shared.binary, err = cluster.Build(ctx, shared.dir, "-race"); err != nil {
			t.Fatal(err)
		}
	}
	c, err := cluster.Start(ctx, cluster.Config{
		Binary: shared.binary, Engine: e.Name, Regions: regions, NodesPerRegion: 2, JWKS: shared.jwks, DNSZone: "test",
		ExtraEnv: func(*cluster.Node) []string {
			return []string{
				"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
				"OTEL_EXPORTER_OTLP_ENDPOINT=" + shared.sink.URL, "OTEL_BSP_SCHEDULE_DELAY=100",
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{cluster: c}
	shared.clusters[e.Name] = w
	if w.db, err = pgxpool.New(ctx, c.DatabaseURL("us-east")); err != nil {
		t.Fatal(err)
	}
	w.store, err = crdb.Open(ctx, crdb.Config{
		URL: c.DatabaseURL("us-east"), ConnectionsPerHome: 1, ReadConnections: 4,
		ConnectTimeout: 2 * time.Second, AttemptTimeout: 10 * time.Second,
	}, crdb.Deps{Log: discard, Meter: noMeter, Tracer: noTracer})
	if err != nil {
		t.Fatal(err)
	}
	w.awaitMembers(t, 6)
	t.Logf("on %s, six nodes", w.store.Version)
	return w
}

// company creates a company with the home, and returns its id.
func (w *world) company(t *testing.T, home string) string {
	t.Helper()
	c := crdb.Company{ID: "c-" + punch.NewID().String(), Name: t.Name(), HomeRegion: home, TimeZone: "Europe/Berlin"}
	out, err := w.store.CreateCompanies(testContext(t), []crdb.Company{c})
	if err != nil || out[0] != nil {
		t.Fatalf("create company: %v, %v", err, out)
	}
	return c.ID
}

// rows returns the regions of an employee's rows.
func (w *world) rows(t *testing.T, company, employee string) (in []string) {
	t.Helper()
	rows, err := w.db.Query(testContext(t), `SELECT crdb_region::text FROM punches WHERE company_id = $1 AND employee_id = $2`, company, employee)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r string
		if err := rows.Scan(&r); err != nil {
			t.Fatal(err)
		}
		in = append(in, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return in
}

func (w *world) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := w.db.QueryRow(testContext(t), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
