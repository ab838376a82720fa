package crdb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// wantObstacles checks the obstacles of a region: one for each of the given texts, in their order.
func wantObstacles(t *testing.T, s *store, name string, words ...string) {
	t.Helper()
	list, existed, err := s.RegionObstacles(s.ctx, name, true)
	ok := err == nil && existed && len(list) == len(words)
	for i := range words {
		ok = ok && strings.Contains(list[i], words[i])
	}
	if !ok {
		t.Errorf("the obstacles of %s are %q (%t, %v), want %q", name, list, existed, err, words)
	}
}

// onlyOn returns the texts if the store has this engine.
func onlyOn(s *store, engine Engine, words ...string) []string {
	if s.Engine == engine {
		return words
	}
	return nil
}

func (s *store) evacuate(name string, until time.Time) {
	s.tb.Helper()
	if _, err := s.SetSwitches(s.ctx, region.Evacuation, []region.Switch{{Region: region.Name(name), Level: 1, Until: until}}); err != nil {
		s.tb.Fatal(err)
	}
}

// removeAndAddRegion removes a region and adds it again. On the way it meets every obstacle.
func removeAndAddRegion(t *testing.T, db *store) {
	three := onlyOn(db, CockroachDB, "with 2 regions left")
	wantObstacles(t, db, "ap-south", append([]string{"in service"}, three...)...)
	db.evacuate("ap-south", time.Now().Add(time.Hour))
	wantObstacles(t, db, "ap-south", append([]string{"only until"}, three...)...)
	db.evacuate("ap-south", time.Time{})
	wantObstacles(t, db, "us-east", slices.Concat([]string{"in service"}, onlyOn(db, CockroachDB, "primary region"), three)...)

	company := db.company("ap-south")
	wantObstacles(t, db, "ap-south", append([]string{"companies with their home here: 1, such as " + company}, three...)...)
	db.exec(`UPDATE companies SET home_region = 'us-east', moving_from = 'ap-south' WHERE company_id = $1`, company)
	wantObstacles(t, db, "ap-south", append([]string{"companies that left, with rows still here: 1, such as " + company}, three...)...)
	db.exec(`DELETE FROM companies WHERE company_id = $1`, company)
	wantObstacles(t, db, "ap-south", append([]string{"table homes has rows here of companies that are not of this region"}, three...)...)
	if db.Engine == CockroachDB {
		if err := db.RemoveRegion(db.ctx, "ap-south"); err == nil {
			t.Error("removed a third region under REGION survival")
		}
		db.exec(`ALTER DATABASE ` + mustParse(t, db.cfg.URL).Database + ` SURVIVE ZONE FAILURE`)
	}
	if err := db.RemoveRegion(db.ctx, "ap-south"); err == nil || !strings.Contains(err.Error(), "still has rows") {
		t.Errorf("removed although a company has its home there: %v", err)
	}
	db.exec(`DELETE FROM homes WHERE company_id = $1`, company)
	wantObstacles(t, db, "ap-south")

	for range 2 { // a second time changes nothing
		if err := db.RemoveRegion(db.ctx, "ap-south"); err != nil {
			t.Fatal(err)
		}
		wantRegions(t, db, "us-east", "eu-west")
	}
	if _, existed, err := db.RegionObstacles(db.ctx, "ap-south", true); existed || err != nil {
		t.Errorf("a removed region: %t, %v", existed, err)
	}
	out, err := db.CreateCompanies(db.ctx, []Company{{ID: "late", Name: "Late", HomeRegion: "ap-south", TimeZone: "UTC"}})
	if err == nil {
		t.Errorf("a company got a home in a removed region: %v", out)
	}
	addAtOnce(t, db, "ap-south")
	wantRegions(t, db, regions...)
	item := db.item(db.company("ap-south"), "ap-south", "anna")
	wantCode(t, db.Writer("ap-south").Write(db.ctx, []punch.Item{item})[0], "")
	uses, err := db.RegionUses(db.ctx)
	if u := find(uses, "ap-south"); err != nil || u.Homes != 1 || !u.Evacuated {
		t.Errorf("%+v, %v: want a home, and the region still evacuated", uses, err)
	}
}

// TestRemoveRegionMeetsPunches removes a region while a transaction has locked a table and wants a second one, in the
// order that is opposite to the removal's. Neither may lose: the removal waits, and the transaction commits.
func TestRemoveRegionMeetsPunches(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		if s.Engine != PostgreSQL {
			t.Skip("CockroachDB removes a region without locks on tables")
		}
		db := mustOwnDatabase(t, s)
		tx, err := db.admin.Begin(db.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(db.ctx) //nolint:errcheck // it has ended
		lock := func(table string) {
			if _, err := tx.Exec(db.ctx, `LOCK TABLE `+table+` IN ROW EXCLUSIVE MODE`); err != nil {
				t.Fatal(err)
			}
		}
		lock("punches")
		removed := make(chan error, 1)
		go func() { removed <- db.RemoveRegion(db.ctx, "ap-south") }()
		waiting := `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE relation = 'punches'::regclass AND NOT granted)`
		for yes := false; !yes; {
			if err := tx.QueryRow(db.ctx, waiting).Scan(&yes); err != nil {
				t.Fatal(err)
			}
		}
		lock("homes")
		if err := tx.Commit(db.ctx); err != nil {
			t.Fatal(err)
		}
		if err := <-removed; err != nil {
			t.Fatal(err)
		}
		wantRegions(t, db, "us-east", "eu-west")
	})
}

// addAtOnce adds a region twice at the same time, and then once more.
func addAtOnce(t *testing.T, db *store, name string) {
	t.Helper()
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = db.AddRegion(db.ctx, name, func(string) {}) })
	}
	wg.Wait()
	existed, err := db.AddRegion(db.ctx, name, func(string) {})
	if errs[0] != nil || errs[1] != nil || err != nil || !existed {
		t.Fatalf("added by two at once: %v, %v; and again: %t, %v", errs[0], errs[1], existed, err)
	}
}

func wantRegions(t *testing.T, db *store, want ...string) {
	t.Helper()
	have, err := db.Regions(db.ctx)
	slices.Sort(have)
	if want = slices.Sorted(slices.Values(want)); err != nil || !slices.Equal(have, want) {
		t.Errorf("the database's regions are %v (%v), want %v", have, err, want)
	}
}

func TestARegionWithoutServersIsRefused(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		if s.Engine != CockroachDB {
			t.Skip("PostgreSQL has no servers of a region")
		}
		_, err := s.AddRegion(s.ctx, "mars-1", func(string) {})
		if err == nil || !strings.Contains(err.Error(), "start its servers first, with --locality=region=mars-1") {
			t.Errorf("got %v", err)
		}
		if _, err := s.AddRegion(s.ctx, "Mars", func(string) {}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("region %q", "Mars")) {
			t.Errorf("got %v", err)
		}
		// A migration waits for servers that start at the same moment.
		conn, err := s.connect(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(s.ctx) //nolint:errcheck // no statement is running
		if err := awaitServers(s.ctx, conn, regions, serverPatience, s.log); err != nil {
			t.Errorf("regions with servers: %v", err)
		}
		start := time.Now()
		err = awaitServers(s.ctx, conn, []string{"mars-1"}, regionPollInterval, s.log)
		if !errors.Is(err, errNoServer) || time.Since(start) < regionPollInterval {
			t.Errorf("a region without servers: %v after %s", err, time.Since(start))
		}
	})
}
