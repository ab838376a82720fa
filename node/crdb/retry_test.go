package crdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/punchclock/punchclock/node/punch"
)

// openBehindProxy opens the database with a proxy as the first gateway, and the given number of others after it.
func (s *store) openBehindProxy(others int, attempt time.Duration, deps Deps) (*DB, *proxy) {
	s.tb.Helper()
	dsn := s.server.URL("us-east")
	g := mustProxy(s.tb, firstAddress(s.tb, dsn))
	cfg := testConfig(through(s.tb, g, dsn, others))
	cfg.AttemptTimeout = attempt
	return s.mustOpenWith(cfg, deps), g
}

// TestReadsReachTheSecondGatewayInTime gives a read less time than one attempt may take, while the first gateway is
// silent.
func TestReadsReachTheSecondGatewayInTime(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		db, g := s.openBehindProxy(1, time.Minute, testDeps())
		unknown := s.item(s.company("us-east"), "us-east", "x")
		missing := unknown.Key()
		find := func() punch.Code {
			ctx, cancel := context.WithTimeout(s.ctx, 6*time.Second)
			defer cancel()
			_, err := db.Find(ctx, "us-east", missing)
			return punch.CodeOf(err)
		}
		if code := find(); code != punch.NotFound {
			t.Fatalf("through the proxy: %s", code)
		}
		g.mute.Store(true)
		if code := find(); code != punch.NotFound {
			t.Fatalf("around the silent proxy: %s", code)
		}
		awaitUnhealthy(t, db, true)
	})
}

func TestTransactionsAvoidASilentGateway(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		db, g := s.openBehindProxy(1, 3*time.Second, testDeps())
		g.mute.Store(true)
		c := Company{ID: "c-" + punch.NewID().String(), Name: "x", HomeRegion: "us-east", TimeZone: "UTC"}
		ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
		defer cancel()
		if out, err := db.CreateCompanies(ctx, []Company{c}); err != nil || out[0] != nil {
			t.Fatalf("%v, %v", out, err)
		}
		awaitUnhealthy(t, db, true)
	})
}

func TestStartWaitsForTheDatabase(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		logged := new(logs)
		db, g := s.openBehindProxy(0, 200*time.Millisecond, logged.deps())
		g.mute.Store(true)
		checked := make(chan error, 1)
		go func() { checked <- db.CheckSchema(s.ctx) }()
		await(t, "a read of the schema has failed", func() bool { return strings.Contains(logged.String(), "does not answer yet") })
		short, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := db.Regions(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the regions of a silent database: %v", err)
		}
		g.mute.Store(false)
		if err := <-checked; err != nil {
			t.Errorf("after the database came back: %v", err)
		}
	})
}

// TestReadsLeaveConnectionsForOthers uses up all connections for reads.
func TestReadsLeaveConnectionsForOthers(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		db := s.mustOpenWith(testConfig(s.server.URL("us-east")), testDeps())
		company := s.company("us-east")
		var held []interface{ Release() }
		for _, h := range db.gateways.all {
			for range h.reads.Config().MaxConns {
				conn, err := h.reads.Acquire(s.ctx)
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, conn)
			}
		}
		if _, err := db.Home(s.ctx, company); err != nil {
			t.Errorf("home: %v", err)
		}
		if _, _, err := db.ClockOffset(s.ctx, time.Now); err != nil {
			t.Errorf("clock: %v", err)
		}
		for _, h := range db.gateways.all {
			if db.gateways.probe(s.ctx, h); health(h.health.Load()) != up {
				t.Errorf("%s counts as down", h.addr)
			}
		}
		// A home whose reads hang uses up its own slots only, and its next read is refused.
		unknown := s.item(company, "us-east", "x")
		missing := unknown.Key()
		reads := make(chan error, 2)
		for range cap(reads) {
			go func() {
				_, err := db.Find(s.ctx, "us-east", missing)
				reads <- err
			}()
		}
		await(t, "the home uses all its slots", func() bool {
			turn, ok := db.readSlots.Load("us-east")
			return ok && len(turn.(chan struct{})) == cap(reads)
		})
		short, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
		defer cancel()
		if _, err := db.Find(short, "us-east", missing); punch.CodeOf(err) != punch.Overloaded {
			t.Errorf("a read beyond the home's slots: %v", err)
		}
		for _, conn := range held {
			conn.Release()
		}
		for range cap(reads) {
			if err := <-reads; punch.CodeOf(err) != punch.NotFound {
				t.Errorf("a read that waited: %v", err)
			}
		}
	})
}

func TestACancelledCallMarksNoGateway(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		db := s.mustOpenWith(testConfig(through(t, mustProxy(t, firstAddress(t, s.server.URL("us-east"))), s.server.URL("us-east"), 1)),
			testDeps())
		ctx, cancel := context.WithCancel(s.ctx)
		cancel()
		for range 5 {
			if _, err := db.Home(ctx, "c-unknown"); !errors.Is(err, context.Canceled) {
				t.Fatalf("%v", err)
			}
		}
		if health(db.gateways.all[0].health.Load()) != up {
			t.Error("the gateway counts as down")
		}
	})
}

// aStaleSchemaResetsSeldom makes every insert fail as after a change of regions. After each reset the next attempt
// needs a new connection.
func aStaleSchemaResetsSeldom(t *testing.T, db *store) {
	company := db.company("us-east")
	db.exec(`CREATE FUNCTION stale() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'stale' USING ERRCODE = 'XX000'; END $$`)
	db.exec(`CREATE TRIGGER stale BEFORE INSERT ON punches FOR EACH ROW EXECUTE FUNCTION stale()`)
	reader := sdkmetric.NewManualReader()
	deps := testDeps()
	deps.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	cfg := db.cfg // one gateway, which gets every attempt
	cfg.URL = through(t, mustProxy(t, firstAddress(t, cfg.URL)), cfg.URL, 0)
	cfg.ConnectionsPerHome = 1 // so that few are idle
	measured := db.mustOpenWith(cfg, deps)
	ctx, cancel := context.WithCancel(db.ctx)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	writing.Go(func() { measured.Writer("us-east").Write(ctx, []punch.Item{db.item(company, "us-east", "anna")}) })
	const attempts = 10
	await(t, "the insert has failed often", func() bool { return retries(t, reader, causeStale) >= attempts })
	made := int64(0)
	for _, h := range measured.gateways.all {
		made = max(made, h.writes.Stat().NewConnsCount())
	}
	if made > 5 { // one at the start, one after the reset, and one that is kept idle each time
		t.Errorf("%d connections were made for %d attempts", made, attempts)
	}
}

// retries returns how often attempts were repeated for the cause.
func retries(t *testing.T, reader *sdkmetric.ManualReader, reason cause) (n int64) {
	t.Helper()
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "punchclock.database.retries" {
				for _, p := range sum.DataPoints {
					if label, _ := p.Attributes.Value("cause"); label.AsString() == string(reason) {
						n += p.Value
					}
				}
			}
		}
	}
	return n
}

// unknownCompaniesDoNotDelayABatch makes reads of companies wait for an open transaction.
func unknownCompaniesDoNotDelayABatch(t *testing.T, db *store) {
	own, elsewhere := db.company("us-east"), db.company("eu-west")
	lock := `LOCK TABLE companies IN ACCESS EXCLUSIVE MODE`
	if db.Engine == CockroachDB { // readers wait for a writer, unless the table is global
		db.exec(`ALTER TABLE companies SET (schema_locked = false)`)
		db.exec(`ALTER TABLE companies SET LOCALITY REGIONAL BY TABLE IN PRIMARY REGION`)
		lock = `UPDATE companies SET version = version + 1`
	}
	tx, err := db.admin.Begin(db.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(db.ctx) //nolint:errcheck // it only holds a lock
	if _, err := tx.Exec(db.ctx, lock); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(db.ctx, 4*time.Second)
	defer cancel()
	out := db.Writer("us-east").Write(ctx, []punch.Item{db.item(own, "us-east", "anna"), db.item(elsewhere, "us-east", "anna"),
		db.item("c-unknown", "us-east", "anna")})
	wantCode(t, out[0], "")
	wantCode(t, out[1], punch.NotHome)
	wantCode(t, out[2], punch.NotHome) // only the database can tell an unknown company, and it did not answer
	if ctx.Err() != nil {
		t.Error("the batch waited to its end")
	}
}

func TestEveryGatewayIsMeasured(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		reader := sdkmetric.NewManualReader()
		deps := testDeps()
		deps.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		db, _ := s.openBehindProxy(1, time.Second, deps)
		var got metricdata.ResourceMetrics
		if err := reader.Collect(s.ctx, &got); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%+v", got)
		for _, h := range db.gateways.all {
			if !strings.Contains(text, h.addr) {
				t.Errorf("no statistics of the pools for %s", h.addr)
			}
		}
	})
}

// TestCloseDoesNotWaitForAFrozenServer closes while pgx says goodbye to a silent server, which takes up to 15 s.
func TestCloseDoesNotWaitForAFrozenServer(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		logged := new(logs)
		db, g := s.openBehindProxy(0, 200*time.Millisecond, logged.deps())
		company := s.company("us-east")
		if _, err := db.Home(s.ctx, company); err != nil {
			t.Fatal(err)
		}
		g.mute.Store(true)
		g.frozen.Store(true)
		if _, err := db.Home(s.ctx, company); err == nil {
			t.Fatal("a silent database answered")
		}
		db.Close()
		if !strings.Contains(logged.String(), "still open") {
			t.Error("all connections were closed: the test proves nothing, or Close waited for them")
		}
	})
}

// TestANewConnectionKnowsTheStatements checks a connection that no punch has used.
func TestANewConnectionKnowsTheStatements(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		cfg := testConfig(s.server.URLOf(mustParse(t, s.DB.files.url).Database, "us-east"))
		cfg.Home = "us-east"
		conn, err := s.mustOpenWith(cfg, testDeps()).gateways.pick(0).writes.Acquire(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		for _, sql := range []string{s.insertSQL(), s.readbackSQL()} {
			var n int
			err := conn.QueryRow(s.ctx, "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%' || $1", sql[len(sql)-60:]).Scan(&n)
			if err != nil || n != 1 {
				t.Errorf("%d statements that end in %q, %v", n, sql[len(sql)-60:], err)
			}
		}
	})
}
