package crdb

import (
	"context"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/punchclock/punchclock/node/punch"
)

// TestOneAfterTheOther runs the tests that change the schema, or need a database of their own, one after the other in
// one database. A new database takes CockroachDB 6 to 12 s of processor time.
func TestOneAfterTheOther(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		name := "m" + strings.ReplaceAll(punch.NewID().String(), "-", "")
		s.exec(`CREATE DATABASE ` + name) // without regions
		url := s.server.URLOf(name, "us-east")
		migrateTwiceAndAtOnce(t, s, url)
		for _, step := range []struct {
			name string
			test func(t *testing.T, db *store)
		}{
			{"migrate restores the roles", migrateRestoresTheRoles},
			{"remove and add a region", removeAndAddRegion},
			{"plans", plans},
			{"unknown companies do not delay a batch", unknownCompaniesDoNotDelayABatch}, // changes a table for good
			{"a stale schema resets seldom", aStaleSchemaResetsSeldom},                   // no row can be inserted later
		} {
			// Each step opens the database anew, because old connections have plans from before a change of the schema.
			if !t.Run(step.name, func(t *testing.T) { step.test(t, mustOpen(t, s.server, url)) }) {
				t.Fatal("the later tests need the database that this test should have left")
			}
		}
	})
}

func migrateTwiceAndAtOnce(t *testing.T, s *store, url string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	results := make([]Migrations, 2)
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { results[i], errs[i] = Migrate(s.ctx, url, regions, log) })
	}
	wg.Wait()
	if errs[0] != nil || errs[1] != nil {
		t.Fatalf("two at once: %v, %v", errs[0], errs[1])
	}
	files, err := fs.Glob(schemas, "schema/"+string(s.Engine)+"/*.sql")
	if n := len(results[0].Applied) + len(results[1].Applied); err != nil || n != len(files) {
		t.Errorf("the two runs applied %d migrations, want each of %v once (%v)", n, files, err)
	}
	again, err := Migrate(s.ctx, url, nil, log)
	if err != nil || len(again.Applied) != 0 || again.Version != results[0].Version {
		t.Fatalf("a third run: %+v, %v", again, err)
	}
	got := slices.Sorted(slices.Values(again.Regions))
	if want := slices.Sorted(slices.Values(regions)); !slices.Equal(got, want) {
		t.Errorf("regions %v, want %v", got, want)
	}
	if s.Engine == CockroachDB {
		db := mustOpen(t, s.server, url)
		var goal string
		if err := db.gateways.pick(0).reads.QueryRow(s.ctx, `SELECT survival_goal FROM [SHOW SURVIVAL GOAL
			FROM DATABASE `+mustParse(t, url).Database+`]`).Scan(&goal); err != nil || goal != "region" {
			t.Errorf("the database survives the loss of a %s, %v", goal, err)
		}
	}
}

// TestMigrateNamesWhatEveryAttemptApplied lets the first attempt fail after it has applied the schema: a type has the name
// that the first partition needs. The second attempt finds nothing to apply.
func TestMigrateNamesWhatEveryAttemptApplied(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		if s.Engine != PostgreSQL {
			t.Skip("CockroachDB has no step after the schema that can be made to fail")
		}
		name := "m" + strings.ReplaceAll(punch.NewID().String(), "-", "")
		if err := s.server.CreateDatabase(s.ctx, name); err != nil {
			t.Fatal(err)
		}
		url := s.server.URLOf(name, "us-east")
		db := mustOpen(t, s.server, url)
		db.exec(`CREATE TYPE homes_us_east AS ENUM ()`)
		repeated := 0
		log := slog.New(onRecord(func(r slog.Record) {
			if strings.Contains(r.Message, "trying again") {
				repeated++
				db.exec(`DROP TYPE IF EXISTS homes_us_east`)
			}
		}))
		done, err := Migrate(s.ctx, url, regions, log)
		if err != nil || repeated != 1 {
			t.Fatalf("%v, after %d repeated attempts, want 1", err, repeated)
		}
		if files, err := fs.Glob(schemas, "schema/postgres/*.sql"); err != nil || len(done.Applied) != len(files) {
			t.Errorf("it names %q as applied, want %d files (%v)", done.Applied, len(files), err)
		}
	})
}

// onRecord is a log handler.
type onRecord func(r slog.Record)

func (f onRecord) Enabled(context.Context, slog.Level) bool { return true }

func (f onRecord) Handle(_ context.Context, r slog.Record) error {
	f(r)
	return nil
}

func (f onRecord) WithAttrs([]slog.Attr) slog.Handler { return f }

func (f onRecord) WithGroup(string) slog.Handler { return f }

func TestOldSchemaIsRefused(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		if err := s.CheckSchema(s.ctx); err != nil {
			t.Fatalf("the schema is new: %v", err)
		}
		name := "m" + strings.ReplaceAll(punch.NewID().String(), "-", "")
		if err := s.server.CreateDatabase(s.ctx, name); err != nil {
			t.Fatal(err)
		}
		empty := mustOpen(t, s.server, s.server.URLOf(name, "us-east"))
		if err := empty.CheckSchema(s.ctx); err == nil || !strings.Contains(err.Error(), "punchclock migrate") {
			t.Fatalf("an empty database: %v, want an error that says what to run", err)
		}
	})
}

func TestBadRegionNameIsRefused(t *testing.T) {
	for _, name := range []string{"", "Us", "us'east", `us"east`, "-us", "us-"} {
		if _, err := Migrate(t.Context(), "postgres://127.0.0.1:1/x", []string{name}, nil); err == nil || !strings.Contains(err.Error(),
			"region") {
			t.Errorf("region %q: %v", name, err)
		}
	}
}
