package rehome_test

import (
	"log/slog"
	"strings"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/punchclock/punchclock/node/rehome"
	"github.com/punchclock/punchclock/region"
)

// degrade sets the level of a region.
func (s *store) degrade(name region.Name, level uint8) {
	s.t.Helper()
	if _, err := s.SetSwitches(s.ctx, region.Degradation, []region.Switch{{Kind: region.Degradation, Region: name, Level: level}}); err != nil {
		s.t.Fatal(err)
	}
}

// aMoveWaitsWhileARegionIsDegraded degrades the old home while its rows are carried, and then the new one before a
// move. No row may move meanwhile, and a level without pause for background work changes nothing.
func (s *store) aMoveWaitsWhileARegionIsDegraded() {
	t := s.t
	company := s.company("us-east")
	items, receipts := s.fill(company, 60)
	var out logs
	paused := make(chan struct{}, 60)
	m, err := rehome.New(rehome.Config{Batch: 20, Parallel: 1}, s.DB, rehome.Deps{
		Log: slog.New(slog.NewTextHandler(&out, nil)), Meter: metricnoop.NewMeterProvider(),
		Progress: func(rehome.Progress) {
			if len(paused) == 0 { // after the first batch
				s.degrade("us-east", region.NoBackground)
			}
			paused <- struct{}{}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.degrade("us-east", region.CachedBoards)
	type end struct {
		rehome.Result
		err error
	}
	ended := make(chan end, 1)
	go func() {
		r, err := m.Company(s.ctx, company, "eu-west")
		ended <- end{r, err}
	}()
	awaitWaiting := func(times int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); strings.Count(out.String(), "the move waits") < times; time.Sleep(10 * time.Millisecond) { // poll
			select {
			case e := <-ended:
				t.Fatalf("the move ended while a region is degraded: %+v, %v", e.Result, e.err)
			default:
			}
			if time.Now().After(deadline) {
				t.Fatalf("the move does not wait: %s", out.String())
			}
		}
	}
	awaitWaiting(1)
	if n := len(paused); n != 1 {
		t.Errorf("%d batches were carried, want 1", n)
	}
	s.wantReceipts(items, receipts) // a company between two homes works
	s.degrade("us-east", 0)
	if e := <-ended; e.err != nil || e.Rows != len(items) {
		t.Fatalf("after degrade 0: %+v, %v", e.Result, e.err)
	}
	s.wantRows(company, "eu-west", len(items))

	// Before the first step a move changes nothing.
	s.degrade("us-east", region.PunchesOnly)
	go func() {
		r, err := m.Company(s.ctx, company, "us-east")
		ended <- end{r, err}
	}()
	awaitWaiting(2)
	if w := s.where(company); w.Home != "eu-west" || w.Carrying() {
		t.Errorf("the company moved to a degraded region: %+v", w)
	}
	s.degrade("us-east", 0)
	if e := <-ended; e.err != nil || e.Rows != len(items) {
		t.Fatalf("after degrade 0: %+v, %v", e.Result, e.err)
	}
	s.wantReceipts(items, receipts)
}
