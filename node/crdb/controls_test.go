package crdb

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// mustOwnDatabase opens a new database on the shared server.
func mustOwnDatabase(t *testing.T, s *store) *store {
	t.Helper()
	name := "d" + strings.ReplaceAll(punch.NewID().String(), "-", "")
	if err := s.server.CreateDatabase(s.ctx, name); err != nil {
		t.Fatal(err)
	}
	url := s.server.URLOf(name, "us-east")
	if _, err := Migrate(s.ctx, url, regions, testDeps().Log); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, s.server, url)
}

// mustSet stores one switch.
func mustSet(t *testing.T, db *store, s region.Switch) region.Switch {
	t.Helper()
	list, err := db.SetSwitches(db.ctx, s.Kind, []region.Switch{s})
	if err != nil || len(list) != 1 {
		t.Fatalf("set %+v: %+v, %v", s, list, err)
	}
	return list[0]
}

// TestSwitches uses the shared database. No other test evacuates or degrades a region there.
func TestSwitches(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, db *store) {
		db.exec(`DELETE FROM controls`) // of an earlier run
		if list, err := db.Switches(db.ctx); err != nil || len(list) != 0 {
			t.Fatalf("before any switch: %v, %v", list, err)
		}
		if first := mustSet(t, db, region.Switch{Region: "us-east", Level: 1}); first.Version != 1 {
			t.Fatalf("%+v", first)
		}
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		if second := mustSet(t, db, region.Switch{Region: "eu-west", Level: 1, Version: 7, Until: until}); second.Version != 7 {
			t.Fatalf("%+v: must exceed a version that another node knows", second)
		}
		if _, err := db.SetSwitches(db.ctx, region.Evacuation, []region.Switch{{Region: "ap-south", Level: 1}}); punch.CodeOf(err) != punch.Conflict {
			t.Fatalf("the last region: %v", err)
		}
		if _, err := db.SetSwitches(db.ctx, region.Evacuation, []region.Switch{{Region: "mars", Level: 1}}); punch.CodeOf(err) != punch.Invalid {
			t.Fatalf("an unknown region: %v", err)
		}
		if third := mustSet(t, db, region.Switch{Region: "us-east"}); third.Version != 8 {
			t.Fatalf("%+v", third)
		}
		degradeAll(t, db, until)
		var known region.Switches
		list, err := db.Switches(db.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			known.Merge(s)
		}
		if known.Evacuated("us-east", time.Now()) || !known.Evacuated("eu-west", time.Now()) || known.Evacuated("eu-west", until) {
			t.Errorf("switches %+v", list)
		}
		for name, want := range map[region.Name]uint8{"us-east": 3, "eu-west": 0, "ap-south": 3} {
			if level := known.Level(region.Degradation, name, time.Now()); level != want {
				t.Errorf("%s has level %d, want %d; switches %+v", name, level, want, list)
			}
		}
		db.exec(`DELETE FROM controls`)
		// A release before degradation levels stored no level.
		db.exec(`INSERT INTO controls (name, value, version) VALUES ('evacuations', '{"eu-west":{"on":true,"version":3}}', 3)`)
		if list, err := db.Switches(db.ctx); err != nil || len(list) != 1 || list[0] != (region.Switch{Region: "eu-west", Level: 1, Version: 3}) {
			t.Errorf("an evacuation of an older release is read as %+v, %v", list, err)
		}
		db.exec(`DELETE FROM controls`)
		evacuateAllAtOnce(t, db)
		db.exec(`DELETE FROM controls`)
	})
}

// degradeAll sets a level in all regions with one statement, which has one version, and sets one region back.
func degradeAll(t *testing.T, db *store, until time.Time) {
	t.Helper()
	list := make([]region.Switch, len(regions))
	for i, name := range regions {
		list[i] = region.Switch{Kind: region.Degradation, Region: region.Name(name), Level: region.PunchesOnly, Until: until}
	}
	stored, err := db.SetSwitches(db.ctx, region.Degradation, list)
	if err != nil || len(stored) != len(list) {
		t.Fatalf("all regions: %+v, %v", stored, err)
	}
	for _, s := range stored {
		if s.Version != 1 || s.Level != region.PunchesOnly || !s.Until.Equal(until) {
			t.Errorf("stored %+v, want version 1: the kinds are counted apart", s)
		}
	}
	if back := mustSet(t, db, region.Switch{Kind: region.Degradation, Region: "eu-west"}); back.Version != 2 {
		t.Errorf("%+v", back)
	}
	list[0].Region = "mars"
	if _, err := db.SetSwitches(db.ctx, region.Degradation, list); punch.CodeOf(err) != punch.Invalid {
		t.Errorf("an unknown region among others: %v", err)
	}
}

// evacuateAllAtOnce lets three operators evacuate one region each at the same moment. One region must stay in service.
func evacuateAllAtOnce(t *testing.T, db *store) {
	t.Helper()
	errs := make([]error, len(regions))
	var wg sync.WaitGroup
	for i, r := range regions {
		wg.Go(func() {
			_, errs[i] = db.SetSwitches(db.ctx, region.Evacuation, []region.Switch{{Region: region.Name(r), Level: 1}})
		})
	}
	wg.Wait()
	refused := 0
	for i, err := range errs {
		switch punch.CodeOf(err) {
		case "":
		case punch.Conflict:
			refused++
		default:
			t.Errorf("%s: %v", regions[i], err)
		}
	}
	if refused != 1 {
		t.Errorf("%d of three were refused, want one: %v", refused, errs)
	}
}
