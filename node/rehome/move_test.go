package rehome_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/rehome"
	"github.com/punchclock/punchclock/region"
)

// dump returns all rows of the company as text, without their region.
func (s *store) dump(company string) []string {
	s.t.Helper()
	rows, err := s.admin.Query(s.ctx, `SELECT day, employee_id, punch_id, kind, device_at, punched_at,
		received_at, recorded_at, zone, utc_offset,
		entry_region, source, note, late, review, trace_id, fingerprint, coalesce(home_region, crdb_region::text)
		FROM punches WHERE company_id = $1`, company)
	if err != nil {
		s.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return fmt.Sprint(values...), err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// TestThereAndBack moves a company with a week of punches away, then to a third region, and home again. Only the region
// of a row may change.
func TestThereAndBack(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 1000)
		before := s.dump(company)
		m := s.mover(rehome.Config{Batch: 300, Parallel: 1})
		for i, to := range []region.Name{"eu-west", "ap-south", "us-east"} {
			r, err := m.Company(s.ctx, company, to)
			if err != nil || r.Rows != len(items) || r.Home != to || r.Epoch != int64(2+i) {
				t.Fatalf("to %s: %+v, %v", to, r, err)
			}
			s.wantRows(company, string(to), len(items))
			s.wantReceipts(items, receipts)
			if after := s.dump(company); !slices.Equal(before, after) {
				t.Fatalf("to %s: the rows were changed, such as\n%s\n%s", to, before[0], after[0])
			}
			if now := s.where(company); now.Carrying() || now.Epoch != r.Epoch || s.count(`SELECT count(*) FROM homes WHERE company_id = $1
				AND moving_from IS NULL`, company) != 1 {
				t.Fatalf("to %s: %+v is not over", to, now)
			}
		}
		if r, err := m.Company(s.ctx, company, "us-east"); err != nil || r.Rows != 0 || r.Epoch != 4 {
			t.Errorf("to where it is: %+v, %v", r, err)
		}
	})
}

// TestEveryColumnIsCarried fails when a new column is missing in carry.sql.
func TestEveryColumnIsCarried(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		rows, err := s.admin.Query(s.ctx, `SELECT column_name::text FROM information_schema.columns WHERE table_name = 'punches'
			AND table_schema = 'public'`)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(columns) < 19 {
			t.Fatalf("columns %v, %v", columns, err)
		}
		carried, compared := mustRead(t, "../crdb/dml/carry.sql"), mustRead(t, "../crdb/dml/differing.sql")
		for _, c := range columns {
			if c != "crdb_region" && strings.Count(carried, c) < 2 {
				t.Errorf("carry.sql does not carry %s", c)
			}
			if !strings.Contains(compared, "old."+c) {
				t.Errorf("differing.sql does not compare %s", c)
			}
		}
	})
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWhileRowsAreCarried checks punches and reads between the flip and the end of a move.
func TestWhileRowsAreCarried(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 20)
		old := s.where(company)
		now, err := s.Flip(s.ctx, company, "eu-west")
		if err != nil || now.Home != "eu-west" || now.From != "us-east" || now.Epoch != 2 {
			t.Fatalf("flipped to %+v, %v", now, err)
		}
		s.wantReceipts(items, receipts) // no row has been carried
		s.wantRows(company, "us-east", 20)
		other := again(items[0], now)
		other.Kind = punch.Out
		wantCode(t, s.Writer("eu-west").Write(s.ctx, []punch.Item{other})[0].Err, punch.Conflict)

		fresh := item(s.ctx, now, "new", time.Now())
		first := s.write(fresh)
		if first.Replayed || first.HomeRegion != "eu-west" {
			t.Errorf("a new punch: %+v", first)
		}
		items, receipts = append(items, fresh), append(receipts, first)
		s.wantReceipts(items, receipts)
		s.wantReads(now, items, receipts)

		// A node with the old home: stored punches are answered, new punches are NotHome.
		stale := routed(again(items[1], now), old)
		if r := s.write(stale); r.RecordedAt != receipts[1].RecordedAt {
			t.Errorf("at the old home: %+v", r)
		}
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{item(s.ctx, old, "late", time.Now())})[0].Err, punch.NotHome)
		_, err = s.Find(s.ctx, "us-east", items[0].Key())
		wantCode(t, err, punch.NotHome)

		if done, err := s.Finish(s.ctx, now); done || err != nil || !s.where(company).Carrying() {
			t.Errorf("ended although rows are left: %t, %v", done, err)
		}
		_, err = s.Flip(s.ctx, company, "ap-south")
		wantCode(t, err, punch.Conflict)
		if same, err := s.Flip(s.ctx, company, "eu-west"); err != nil || same != now {
			t.Errorf("flipped again: %+v, %v, want %+v", same, err, now)
		}
		back, err := s.Flip(s.ctx, company, "us-east")
		if err != nil || back.From != "eu-west" || back.Epoch != 3 {
			t.Fatalf("reversed: %+v, %v", back, err)
		}
		s.wantReceipts(items, receipts) // the new punch is in eu-west
		s.wantReads(back, items, receipts)
		if _, err := s.mover(rehome.DefaultConfig()).Company(s.ctx, company, "us-east"); err != nil {
			t.Fatal(err)
		}
		s.wantRows(company, "us-east", 21)
		s.wantReceipts(items, receipts)
	})
}

// wantReads finds each punch by its key, and in a listing with one punch per page.
func (s *store) wantReads(m region.Move, items []punch.Item, receipts []punch.Receipt) {
	s.t.Helper()
	byEmployee := make(map[string]int)
	for i := range items {
		byEmployee[items[i].Employee]++
		found, err := s.Find(s.ctx, string(m.Home), items[i].Key())
		if err != nil || found.Receipt != receipts[i] {
			s.t.Fatalf("found %+v, %v\nwant %+v", found, err, receipts[i])
		}
	}
	for employee, want := range byEmployee {
		q := punch.Query{Company: m.Company, Employee: employee, From: time.Now().Add(-8 * 24 * time.Hour),
			To: time.Now().Add(time.Hour), Limit: 1}
		for got := 0; ; got++ {
			page, err := s.List(s.ctx, string(m.Home), q)
			if err != nil {
				s.t.Fatal(err)
			}
			if len(page) == 0 {
				if got != want {
					s.t.Fatalf("%d punches of %s were listed, want %d", got, employee, want)
				}
				break
			}
			q.After = punch.Cursor{PunchedAt: page[0].PunchedAt, ID: page[0].ID}
		}
	}
}

// TestTwoMoversAtOnce lets several movers carry the same company.
func TestTwoMoversAtOnce(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 300)
		results, errs := make([]rehome.Result, 3), make([]error, 3)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				results[i], errs[i] = s.mover(rehome.Config{Batch: 20, Parallel: 1}).Company(s.ctx, company, "eu-west")
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if n := results[0].Rows + results[1].Rows + results[2].Rows; n != len(items) {
			t.Errorf("%d rows were carried, want each of %d once", n, len(items))
		}
		s.wantRows(company, "eu-west", len(items))
		s.wantReceipts(items, receipts)
		if m := s.where(company); m.Epoch != 2 || m.Carrying() {
			t.Errorf("%+v", m)
		}
	})
}

// TestReversedUnderWay reverses a move while its mover works. The mover must notice and change nothing.
func TestReversedUnderWay(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 60)
		carried, turned := make(chan struct{}, 60), make(chan struct{})
		first, err := rehome.New(rehome.Config{Batch: 20, Parallel: 1}, s.DB, rehome.Deps{
			Log: discard, Meter: sdkmetric.NewMeterProvider(),
			Progress: func(rehome.Progress) { carried <- struct{}{}; <-turned },
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := first.Company(s.ctx, company, "eu-west")
			ended <- err
		}()
		<-carried
		back, err := s.Flip(s.ctx, company, "us-east")
		close(turned)
		if err != nil || back.From != "eu-west" {
			t.Fatalf("%+v, %v", back, err)
		}
		wantCode(t, <-ended, punch.NotHome)
		s.wantReceipts(items, receipts)
		if r, err := s.mover(rehome.DefaultConfig()).Company(s.ctx, company, "us-east"); err != nil || r.Rows != 20 {
			t.Fatalf("home again: %+v, %v, want the 20 that had left", r, err)
		}
		s.wantRows(company, "us-east", len(items))
		s.wantReceipts(items, receipts)
	})
}

// TestUnlikeRowsStopTheMove inserts a second row under a punch's key. Punchclock itself never does that.
func TestUnlikeRowsStopTheMove(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 30)
		if _, err := s.Flip(s.ctx, company, "eu-west"); err != nil {
			t.Fatal(err)
		}
		key := items[7].Key()
		plant := func(note string) {
			s.exec(`INSERT INTO punches SELECT 'eu-west', company_id, day, employee_id, punch_id, kind, device_at, punched_at,
				received_at, recorded_at,
				zone, utc_offset, entry_region, source, `+note+`, late, review, trace_id, fingerprint, 'us-east'
				FROM punches WHERE crdb_region = 'us-east' AND company_id = $1 AND punch_id = $2`, company, [16]byte(key.ID))
		}
		plant("'other'")
		logged, reader := new(logs), sdkmetric.NewManualReader()
		m, err := rehome.New(rehome.DefaultConfig(), s.DB, rehome.Deps{
			Log: slog.New(slog.NewTextHandler(logged, nil)), Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Company(s.ctx, company, "eu-west")
		if !errors.Is(err, rehome.ErrDiffers) || !strings.Contains(err.Error(), key.ID.String()) {
			t.Fatalf("got %v, want the punch named", err)
		}
		if !strings.Contains(logged.String(), "level=ERROR") || !strings.Contains(logged.String(), key.ID.String()) {
			t.Errorf("logged %s", logged)
		}
		if n := differing(t, reader); n != 1 {
			t.Errorf("the metric says %d", n)
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != 31 {
			t.Errorf("%d rows, want all 31 untouched", n)
		}
		fresh := item(s.ctx, s.where(company), "new", time.Now())
		first := s.write(fresh) // the company stays usable

		// An operator has decided: the second row must equal the first.
		s.exec(`DELETE FROM punches WHERE company_id = $1 AND crdb_region = 'eu-west' AND note = 'other'`, company)
		plant("note")
		if r, err := m.Company(s.ctx, company, "eu-west"); err != nil || r.Rows != 30 {
			t.Fatalf("%+v, %v", r, err)
		}
		s.wantRows(company, "eu-west", 31)
		s.wantReceipts(append(items, fresh), append(receipts, first))
	})
}

func differing(t *testing.T, reader *sdkmetric.ManualReader) (n int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "punchclock.move.conflicts" {
				for _, point := range sum.DataPoints {
					n += point.Value
				}
			}
		}
	}
	return n
}

func TestRefusals(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		m := s.mover(rehome.DefaultConfig())
		_, err := m.Company(s.ctx, "c-unknown", "eu-west")
		wantCode(t, err, punch.UnknownCompany)
		_, err = m.Company(s.ctx, s.company("us-east"), "mars")
		wantCode(t, err, punch.Invalid)
		if _, err := m.Region(s.ctx, "us-east", "us-east"); err == nil {
			t.Error("moved a region to itself")
		}
		// A fence that contradicts the company is not repaired by a guess.
		company := s.company("us-east")
		s.exec(`UPDATE homes SET epoch = 9 WHERE company_id = $1`, company)
		_, err = m.Company(s.ctx, company, "eu-west")
		wantCode(t, err, punch.Conflict)
		if now := s.where(company); now.Home != "us-east" || now.Epoch != 1 {
			t.Errorf("%+v was changed", now)
		}
	})
	for _, bad := range []rehome.Config{{Batch: 0, Parallel: 1}, {Batch: 1, Parallel: 0}, {Batch: 100_000, Parallel: 1}, {Batch: 1,
		Parallel: 100}} {
		if bad.Validate() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}
