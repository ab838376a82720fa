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

// TestEvacuations uses the shared database. No other test evacuates a region there.
func TestEvacuations(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, db *store) {
		db.exec(`DELETE FROM controls`) // of an earlier run
		if list, err := db.Evacuations(db.ctx); err != nil || len(list) != 0 {
			t.Fatalf("before any switch: %v, %v", list, err)
		}
		first, err := db.SetEvacuation(db.ctx, region.Evacuation{Region: "us-east", On: true})
		if err != nil || first.Version != 1 {
			t.Fatalf("%+v, %v", first, err)
		}
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		second, err := db.SetEvacuation(db.ctx, region.Evacuation{Region: "eu-west", On: true, Version: 7, Until: until})
		if err != nil || second.Version != 7 {
			t.Fatalf("%+v, %v: must exceed a version that another node knows", second, err)
		}
		if _, err := db.SetEvacuation(db.ctx, region.Evacuation{Region: "ap-south", On: true}); punch.CodeOf(err) != punch.Conflict {
			t.Fatalf("the last region: %v", err)
		}
		if _, err := db.SetEvacuation(db.ctx, region.Evacuation{Region: "mars", On: true}); punch.CodeOf(err) != punch.Invalid {
			t.Fatalf("an unknown region: %v", err)
		}
		if third, err := db.SetEvacuation(db.ctx, region.Evacuation{Region: "us-east"}); err != nil || third.Version != 8 {
			t.Fatalf("%+v, %v", third, err)
		}
		var known region.Evacuations
		list, err := db.Evacuations(db.ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			known.Merge(e)
		}
		if known.Evacuated("us-east", time.Now()) || !known.Evacuated("eu-west", time.Now()) || known.Evacuated("eu-west", until) {
			t.Errorf("switches %+v", list)
		}
		db.exec(`DELETE FROM controls`)
		evacuateAllAtOnce(t, db)
	})
}

// evacuateAllAtOnce lets three operators evacuate one region each at the same moment. One region must stay in service.
func evacuateAllAtOnce(t *testing.T, db *store) {
	t.Helper()
	errs := make([]error, len(regions))
	var wg sync.WaitGroup
	for i, r := range regions {
		wg.Go(func() {
			_, errs[i] = db.SetEvacuation(db.ctx, region.Evacuation{Region: region.Name(r), On: true})
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
