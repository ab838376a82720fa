package crdb

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// opened is what the pools of a DB have done so far.
type opened struct{ connections, prepares int64 }

func (db *DB) opened(t *testing.T, reader *sdkmetric.ManualReader) (o opened) {
	t.Helper()
	for _, g := range db.gateways.all {
		o.connections += g.writes.Stat().NewConnsCount() + g.reads.Stat().NewConnsCount() + g.control.Stat().NewConnsCount()
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "punchclock.database.prepares" {
				for _, point := range sum.DataPoints {
					o.prepares += point.Value
				}
			}
		}
	}
	return o
}

// TestAWarmNodeOpensAndPreparesNothingForItsFirstPunches counts what the first punch of each home costs, the first look
// at a punch, and the first lookup of a company. A pool that checks itself during a punch opens one more connection, so
// one of three nodes must need nothing.
func TestAWarmNodeOpensAndPreparesNothingForItsFirstPunches(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		companies := make(map[string]string)
		for _, home := range regions {
			companies[home] = s.company(home)
		}
		var cost opened
		for range 3 {
			if cost = s.firstPunches(t, companies); cost == (opened{}) {
				return
			}
		}
		t.Errorf("the first punches of all homes opened %d connections and prepared %d statements, want none", cost.connections, cost.prepares)
	})
}

// firstPunches returns what a warm node opens and prepares for the first punches of the companies of all homes.
func (s *store) firstPunches(t *testing.T, companies map[string]string) opened {
	t.Helper()
	reader, deps := sdkmetric.NewManualReader(), testDeps()
	deps.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	cfg := testConfig(s.server.URL("us-east"))
	cfg.Home = "us-east"
	db, err := Open(s.ctx, cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Warm(s.ctx, regions); err != nil {
		t.Fatal(err)
	}
	before := db.opened(t, reader)
	if before.prepares == 0 {
		t.Fatal("a warm node has prepared nothing")
	}
	for home, company := range companies {
		items := []punch.Item{s.item(company, home, "anna")}
		for range 2 { // the second time as a replay, which is read back
			wantCode(t, db.Writer(home).Write(s.ctx, items)[0], "")
		}
		if _, err := db.Find(s.ctx, home, items[0].Key()); err != nil {
			t.Error(err)
		}
		if _, err := db.Home(s.ctx, company); err != nil {
			t.Error(err)
		}
	}
	if _, err := db.Home(s.ctx, "nobody"); !errors.Is(err, region.ErrUnknownCompany) {
		t.Error(err)
	}
	after := db.opened(t, reader)
	return opened{after.connections - before.connections, after.prepares - before.prepares}
}

// TestAWarmUpLeavesWhatDoesNotAnswer warms a node whose first gateway accepts and never answers. The other gateway must
// be warm when the time is up.
func TestAWarmUpLeavesWhatDoesNotAnswer(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		dsn := s.server.URL("us-east")
		g := mustProxy(t, firstAddress(t, dsn))
		cfg := testConfig(through(t, g, dsn, 1))
		cfg.Home = "us-east"
		db := s.mustOpenWith(cfg, testDeps())
		g.mute.Store(true)
		ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
		defer cancel()
		err := db.Warm(ctx, regions)
		if err == nil || !strings.Contains(err.Error(), g.Addr().String()) {
			t.Errorf("the warm-up says %v, want the address of the silent gateway", err)
		}
		if ctx.Err() != nil {
			t.Error("the warm-up waited for its deadline")
		}
		if idle := db.gateways.all[1].writes.Stat().IdleConns(); int(idle) < cfg.ConnectionsPerHome {
			t.Errorf("the other gateway has %d idle connections, want %d", idle, cfg.ConnectionsPerHome)
		}
	})
}

// TestAWarmUpLeavesAHomeThatDoesNotAnswer lets reads of one home wait for an unfinished transaction, as they wait while
// a region's servers are away. PostgreSQL has no such reads.
func TestAWarmUpLeavesAHomeThatDoesNotAnswer(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		if s.Engine != CockroachDB {
			t.Skip("PostgreSQL's reads never wait for a writer")
		}
		s.exec(`BEGIN`)
		defer s.exec(`ROLLBACK`)
		s.exec(`INSERT INTO homes (crdb_region, company_id, epoch) VALUES ('eu-west', '', 1)`)
		cfg := testConfig(s.server.URL("us-east"))
		cfg.Home, cfg.ConnectTimeout = "us-east", time.Second
		db := s.mustOpenWith(cfg, testDeps())
		ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
		defer cancel()
		err := db.Warm(ctx, regions)
		if err == nil || !strings.Contains(err.Error(), "home eu-west") || strings.Contains(err.Error(), "home ap-south") || ctx.Err() != nil {
			t.Errorf("the warm-up says %v, want eu-west alone and before its deadline", err)
		}
	})
}
