package crdb

import (
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/punchclock/punchclock/node/punch"
)

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		name := "m" + strings.ReplaceAll(punch.NewID().String(), "-", "")
		s.exec(`CREATE DATABASE ` + name) // without regions
		url := s.server.URLOf(name, "us-east")
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
				FROM DATABASE `+name+`]`).Scan(&goal); err != nil || goal != "region" {
				t.Errorf("the database survives the loss of a %s, %v", goal, err)
			}
		}
	})
}

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
