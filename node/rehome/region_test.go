package rehome_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/rehome"
	"github.com/punchclock/punchclock/region"
)

// mustOwnDatabase opens a new database with three regions.
func (s *store) mustOwnDatabase() *store {
	s.t.Helper()
	name := "d" + strings.ReplaceAll(punch.NewID().String(), "-", "")
	create := `CREATE DATABASE ` + name
	if s.Engine == crdb.CockroachDB { // one statement is much faster than a migration that adds each region
		create += ` PRIMARY REGION "us-east" REGIONS "eu-west", "ap-south" SURVIVE REGION FAILURE`
	}
	s.exec(create)
	url := s.server.URLOf(name, regions[0])
	if _, err := crdb.Migrate(s.ctx, url, regions, discard); err != nil {
		s.t.Fatal(err)
	}
	return mustOpen(s.t, s.server, url)
}

// TestRegions runs the tests of whole regions one after the other in one database, because a new database takes
// CockroachDB many seconds.
func TestRegions(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, shared *store) {
		s := shared.mustOwnDatabase()
		s.aFailureStopsNoOtherCompany()
		s.aFourthRegionComesAndGoes()
		mustOpen(t, s.server, s.url).aMoveWaitsWhileARegionIsDegraded() // the old connections know the fourth region
	})
}

// aFourthRegionComesAndGoes adds a region to a running database, fills it, empties it and removes it. Meanwhile a
// device punches for another home and reads its punches.
func (s *store) aFourthRegionComesAndGoes() {
	t := s.t
	steady, stop := s.punchSteadily(s.company("us-east"))
	defer stop()
	stale := s.where(s.company("us-east"))
	stale.Home = fourth
	s.neverFinal(stale, func() {
		if existed, err := s.AddRegion(s.ctx, fourth, func(step string) { t.Log(step) }); err != nil || existed {
			t.Fatalf("%t, %v", existed, err)
		}
	})
	s.admin = s.connect() // the old connection's plans are older than the region, and CockroachDB answers XX000
	homes := make([]string, 4)
	for i := range homes {
		homes[i] = s.company(fourth)
	}
	items, receipts := s.fill(homes[0], 200)
	s.startMoveToFourth(homes[1])
	// A move that has left for another region must go there.
	leaving, _ := s.fill(homes[2], 10)
	if _, err := s.Flip(s.ctx, homes[2], "ap-south"); err != nil {
		t.Fatal(err)
	}
	stale = s.where(homes[3])
	if _, err := s.SetSwitches(s.ctx, region.Evacuation, []region.Switch{{Region: fourth, Level: 1}}); err != nil {
		t.Fatal(err)
	}
	s.wantObstacles("companies with their home here: 3", "companies that left, with rows still here: 1")
	s.emptyInTwoRuns()
	s.wantObstacles()
	s.wantRows(homes[0], "eu-west", 200)
	s.wantRows(homes[1], "eu-west", 5)
	s.wantRows(homes[2], "ap-south", len(leaving))
	s.wantReceipts(items, receipts)

	s.neverFinal(stale, func() {
		if err := s.RemoveRegion(s.ctx, fourth); err != nil {
			t.Fatal(err)
		}
	})
	// A node that has missed all of this is told NotHome soon.
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	i := item(ctx, stale, "late", time.Now())
	wantCode(t, s.Writer(fourth).Write(ctx, []punch.Item{i})[0].Err, punch.NotHome)
	_, err := s.Find(ctx, fourth, i.Key())
	wantCode(t, err, punch.NotHome)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	stop()
	if n := steady.Load(); n < 10 {
		t.Errorf("%d punches meanwhile: this proves too little", n)
	}
}

// startMoveToFourth leaves a company in the middle of a move to the fourth region.
func (s *store) startMoveToFourth(company string) {
	s.t.Helper()
	if _, err := s.mover(rehome.DefaultConfig()).Company(s.ctx, company, "us-east"); err != nil {
		s.t.Fatal(err)
	}
	s.fill(company, 5)
	if _, err := s.Flip(s.ctx, company, fourth); err != nil {
		s.t.Fatal(err)
	}
}

// emptyInTwoRuns moves all homes out of the fourth region. The first run is interrupted.
func (s *store) emptyInTwoRuns() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	m, err := rehome.New(rehome.Config{Batch: 20, Parallel: 2}, s.DB, rehome.Deps{
		Log: discard, Meter: metricnoop.NewMeterProvider(),
		Progress: func(p rehome.Progress) {
			if p.Rows > 0 {
				cancel()
			}
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if sum, err := m.Region(ctx, fourth, "eu-west"); !errors.Is(err, context.Canceled) || sum.Failed != 0 {
		s.t.Fatalf("interrupted: %+v, %v", sum, err)
	}
	sum, err := s.mover(rehome.DefaultConfig()).Region(s.ctx, fourth, "eu-west")
	if err != nil || sum.Failed != 0 || sum.Companies == 0 || sum.Rows < 100 {
		s.t.Fatalf("the second run: %+v, %v", sum, err)
	}
	if left, err := s.MovesOf(s.ctx, fourth); err != nil || len(left) > 0 {
		s.t.Fatalf("%v, %v are left", left, err)
	}
}

func (s *store) wantObstacles(words ...string) {
	s.t.Helper()
	list, existed, err := s.RegionObstacles(s.ctx, fourth, true)
	ok := err == nil && existed && len(list) == len(words)
	for i := range words {
		ok = ok && strings.Contains(list[i], words[i])
	}
	if !ok {
		s.t.Fatalf("the obstacles are %q (%t, %v), want %q", list, existed, err, words)
	}
}

// punchSteadily punches for a company and reads each punch until stop is called. No call may fail.
func (s *store) punchSteadily(company string) (count *atomic.Int64, stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	punches := new(atomic.Int64)
	ended := make(chan error, 1)
	m := s.where(company)
	go func() {
		ended <- func() error {
			for ctx.Err() == nil {
				call, done := context.WithTimeout(s.ctx, 10*time.Second)
				i := item(call, m, "steady", time.Now())
				err := s.Writer("us-east").Write(call, []punch.Item{i})[0].Err
				if err == nil {
					_, err = s.Find(call, "us-east", i.Key())
				}
				done()
				if err != nil {
					return fmt.Errorf("after %d punches: %w", punches.Load(), err)
				}
				punches.Add(1)
			}
			return nil
		}()
	}()
	stopped := false
	return punches, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}
}

// aFailureStopsNoOtherCompany checks that a run over a region names the failed company and moves the others.
func (s *store) aFailureStopsNoOtherCompany() {
	s.t.Helper()
	bad, good := s.company("ap-south"), s.company("ap-south")
	items, _ := s.fill(good, 5)
	s.exec(`UPDATE homes SET epoch = 9 WHERE company_id = $1`, bad)
	sum, err := s.mover(rehome.DefaultConfig()).Region(s.ctx, "ap-south", "us-east")
	if err == nil || sum.Failed != 1 || sum.Companies != 1 || !strings.Contains(err.Error(), bad) {
		s.t.Fatalf("%+v, %v", sum, err)
	}
	s.wantRows(good, "us-east", len(items))
}

// neverFinal writes with a stale route while a region is added or removed. CockroachDB answers SQLSTATE 22023 while the
// region's label is not public. A final refusal would make a device give up a good punch.
func (s *store) neverFinal(stale region.Move, change func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	refusals := make(chan map[punch.Code]int, 1)
	go func() {
		seen := make(map[punch.Code]int)
		for ctx.Err() == nil || len(seen) == 0 {
			call, done := context.WithTimeout(s.ctx, 10*time.Second)
			err := s.Writer(fourth).Write(call, []punch.Item{item(call, stale, "stale", time.Now())})[0].Err
			done()
			seen[punch.CodeOf(err)]++
		}
		refusals <- seen
	}()
	change()
	cancel()
	seen := <-refusals
	s.t.Logf("answers under a stale route: %v", seen)
	for code, n := range seen {
		if code == "" || code.Final() {
			s.t.Errorf("%d punches under a stale route were answered %q", n, code)
		}
	}
	if seen[punch.NotHome] == 0 {
		s.t.Error("no punch was told that its route is stale")
	}
}
