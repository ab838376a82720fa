package rehome_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/rehome"
	"github.com/punchclock/punchclock/region"
)

// stalls is how long a statement is given to show that it does not wait: many
// times what one takes on an idle machine. One that is slower shows less, never
// something wrong.
const stalls = 300 * time.Millisecond

// quiet returns whether the channel was quiet for that long.
func quiet[T any](c <-chan T) bool {
	select {
	case <-c:
		return false
	case <-time.After(stalls):
		return true
	}
}

// TestRetryMeetsACarry sends all punches again while a transaction that carries
// them is open, which then commits, or does not.
func TestRetryMeetsACarry(t *testing.T) {
	for name, end := range map[string]func(pgx.Tx, context.Context) error{"committed": pgx.Tx.Commit, "rolled back": pgx.Tx.Rollback} {
		t.Run(name, func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, s *store) {
				company := s.company("us-east")
				items, receipts := s.fill(company, 20)
				now, err := s.Flip(s.ctx, company, "eu-west")
				if err != nil {
					t.Fatal(err)
				}
				tx, err := s.admin.Begin(s.ctx)
				if err != nil {
					t.Fatal(err)
				}
				oldest := items[len(items)-1]
				tag, err := tx.Exec(s.ctx, mustRead(t, "../crdb/dml/carry.sql"), "us-east", "eu-west", company, oldest.ID.Day(), "", [16]byte{})
				if err == nil && tag.RowsAffected() == 20 {
					_, err = tx.Exec(s.ctx, `DELETE FROM punches WHERE crdb_region = 'us-east' AND company_id = $1`, company)
				}
				if err != nil || tag.RowsAffected() != 20 {
					t.Fatalf("carried %d: %v", tag.RowsAffected(), err)
				}
				retries := make([]punch.Item, len(items))
				for i := range items {
					retries[i] = again(items[i], now)
				}
				answered := make(chan []punch.Outcome, 1)
				go func() { answered <- s.Writer("eu-west").Write(s.ctx, retries) }()
				var out []punch.Outcome
				select {
				case out = <-answered: // PostgreSQL sees the rows as they were
				case <-time.After(stalls):
				}
				if err := end(tx, s.ctx); err != nil {
					t.Fatal(err)
				}
				if out == nil {
					out = <-answered
				}
				for i, o := range out {
					want := receipts[i]
					want.Replayed = true
					if o.Err != nil || o.Receipt != want {
						t.Fatalf("sent again: %+v, %v\nwant %+v", o.Receipt, o.Err, want)
					}
				}
				if _, err := s.mover(rehome.DefaultConfig()).Company(s.ctx, company, "eu-west"); err != nil {
					t.Fatal(err)
				}
				s.wantRows(company, "eu-west", 20)
				s.wantReceipts(items, receipts)
			})
		})
	}
}

// TestWriterStallsPastTheFence holds a punch up after it has passed the fence of
// the old home, lets the company move, and sends the punch to the new home,
// too.
func TestWriterStallsPastTheFence(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, _ := s.fill(company, 1)
		old := s.where(company)
		late := item(s.ctx, old, "late", time.Now())
		// Somebody else has the key in hand: the writer waits for them.
		holder, err := s.admin.Begin(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holder.Exec(s.ctx, `INSERT INTO punches SELECT crdb_region, company_id, $2::date, 'late', $3::uuid, kind, device_at, punched_at,
			received_at, recorded_at, zone, utc_offset, entry_region, source, note, late, review, trace_id, fingerprint
			FROM punches WHERE company_id = $1 AND punch_id = $4`, company, late.ID.Day(), [16]byte(late.ID), [16]byte(items[0].ID)); err != nil {
			t.Fatal(err)
		}
		before := make(chan punch.Outcome, 1)
		go func() { before <- s.Writer("us-east").Write(s.ctx, []punch.Item{late})[0] }()
		if !quiet(before) {
			t.Fatal("the writer did not wait: the test shows nothing")
		}
		after := make(chan punch.Outcome, 1)
		go func() {
			now, err := s.Flip(s.ctx, company, "eu-west")
			if err != nil {
				after <- punch.Outcome{Err: err}
				return
			}
			after <- s.Writer("eu-west").Write(s.ctx, []punch.Item{again(late, now)})[0]
		}()
		if !quiet(after) {
			t.Fatal("a punch was decided at the new home while it was open at the old one")
		}
		if err := holder.Rollback(s.ctx); err != nil {
			t.Fatal(err)
		}
		one, other := <-before, <-after
		if other.Err != nil {
			t.Fatalf("at the new home: %v", other.Err)
		}
		if one.Err != nil {
			wantCode(t, one.Err, punch.NotHome)
		} else if a, b := one.Receipt, other.Receipt; a.Replayed == b.Replayed || !a.RecordedAt.Equal(b.RecordedAt) || a.HomeRegion != b.HomeRegion || a.TraceID != b.TraceID {
			t.Errorf("two receipts of one punch:\n%+v\n%+v", a, b)
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1 AND employee_id = 'late'`, company); n != 1 {
			t.Fatalf("%d rows of one punch", n)
		}
	})
}

// errKilled is what a killed mover's store says.
var errKilled = errors.New("killed")

// mortal is a store whose mover dies at one of its calls: before it, or after
// it and before the answer.
type mortal struct {
	rehome.Store
	calls  int // until it dies
	answer bool
}

func die[T any](m *mortal, call func() (T, error)) (none T, err error) {
	m.calls--
	if m.calls == 0 && !m.answer || m.calls < 0 {
		return none, errKilled
	}
	got, err := call()
	if m.calls == 0 {
		return none, errKilled
	}
	return got, err
}

func (m *mortal) Flip(ctx context.Context, company string, to region.Name) (region.Move, error) {
	return die(m, func() (region.Move, error) { return m.Store.Flip(ctx, company, to) })
}

func (m *mortal) Carry(ctx context.Context, which region.Move, limit int) (n int, differing []punch.Key, err error) {
	n, err = die(m, func() (int, error) {
		n, differing, err = m.Store.Carry(ctx, which, limit)
		return n, err
	})
	return n, differing, err
}

func (m *mortal) Finish(ctx context.Context, which region.Move) (bool, error) {
	return die(m, func() (bool, error) { return m.Store.Finish(ctx, which) })
}

// TestAnotherMoverGoesOn kills a mover before and after each of its steps. Punches
// and retries are right at every such moment, and the next mover ends the move.
func TestAnotherMoverGoesOn(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 25)
		homes := []region.Name{"us-east", "eu-west"}
		for calls := 1; ; calls++ {
			for _, answer := range []bool{false, true} {
				from := s.where(company).Home
				to := homes[0]
				if from == to {
					to = homes[1]
				}
				m, err := rehome.New(rehome.Config{Batch: 10, Parallel: 1}, &mortal{s.DB, calls, answer}, rehome.Deps{Log: discard, Meter: metricnoop.NewMeterProvider()})
				if err != nil {
					t.Fatal(err)
				}
				_, err = m.Company(s.ctx, company, to)
				if err == nil {
					if calls != 7 { // flip, three that carry, one that finds nothing, the end
						t.Errorf("a move took %d calls: another number than this test was made for", calls-1)
					}
					return
				}
				if !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				s.wantReceipts(items, receipts)
				fresh := item(s.ctx, s.where(company), "new", time.Now())
				items, receipts = append(items, fresh), append(receipts, s.write(fresh))
				if _, err := s.mover(rehome.Config{Batch: 10, Parallel: 1}).Company(s.ctx, company, to); err != nil {
					t.Fatalf("after a death at call %d (answered: %t): %v", calls, answer, err)
				}
				s.wantRows(company, string(to), len(items))
				s.wantReceipts(items, receipts)
				s.exec(`DELETE FROM punches WHERE company_id = $1 AND employee_id = 'new'`, company) // the number of calls stays
				items, receipts = items[:25], receipts[:25]
			}
		}
	})
}

// hasty is a store whose moves are ended by somebody else in the last moment.
type hasty struct{ rehome.Store }

func (h hasty) Finish(ctx context.Context, m region.Move) (bool, error) {
	if done, err := h.Store.Finish(ctx, m); err != nil || !done {
		return done, err
	}
	return h.Store.Finish(ctx, m)
}

// TestEndedByAnother: a move that is over as it should be is no failure.
func TestEndedByAnother(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, _ := s.fill(company, 5)
		m, err := rehome.New(rehome.DefaultConfig(), hasty{s.DB}, rehome.Deps{Log: discard, Meter: metricnoop.NewMeterProvider()})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := m.Company(s.ctx, company, "ap-south"); err != nil || r.Rows != 5 {
			t.Fatalf("%+v, %v", r, err)
		}
		s.wantRows(company, "ap-south", len(items))
	})
}

// TestAMoverOfThePast wakes a mover up after the company has moved on and come
// back to the same home from elsewhere: it must not end that move.
func TestAMoverOfThePast(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 10)
		past, err := s.Flip(s.ctx, company, "eu-west")
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []region.Name{"eu-west", "ap-south"} {
			if _, err := s.mover(rehome.DefaultConfig()).Company(s.ctx, company, to); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Flip(s.ctx, company, "eu-west"); err != nil {
			t.Fatal(err)
		}
		_, _, err = s.Carry(s.ctx, past, 100)
		wantCode(t, err, punch.NotHome)
		_, err = s.Finish(s.ctx, past)
		wantCode(t, err, punch.NotHome)
		if now := s.where(company); now.From != "ap-south" {
			t.Errorf("%+v: the move was ended", now)
		}
		s.wantReceipts(items, receipts)
	})
}
