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

// stallTime is how long a statement must stay without an answer to count as waiting. It is many times what a statement
// takes on an idle machine. On a slow machine the test proves less, but does not fail.
const stallTime = 300 * time.Millisecond

// staysOpen reports whether nothing came from the channel in that time.
func staysOpen[T any](c <-chan T) bool {
	select {
	case <-c:
		return false
	case <-time.After(stallTime):
		return true
	}
}

// TestRetryMeetsACarry repeats all punches while a transaction that carries them is open. Then the transaction commits
// or rolls back.
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
				case out = <-answered: // PostgreSQL reads the rows from before the transaction
				case <-time.After(stallTime):
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

// TestWriterStallsPastTheFence stops a punch after it has passed the fence of the old home. Then the company moves, and
// the same punch is sent to the new home.
func TestWriterStallsPastTheFence(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, _ := s.fill(company, 1)
		old := s.where(company)
		late := item(s.ctx, old, "late", time.Now())
		// Another transaction holds the key, so the writer waits.
		holder, err := s.admin.Begin(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holder.Exec(s.ctx, `INSERT INTO punches
			SELECT crdb_region, company_id, $2::date, 'late', $3::uuid, kind, device_at, punched_at,
			received_at, recorded_at, zone, utc_offset, entry_region, source, note, late, review, trace_id, fingerprint
			FROM punches WHERE company_id = $1 AND punch_id = $4`, company, late.ID.Day(), [16]byte(late.ID), [16]byte(items[0].ID)); err != nil {
			t.Fatal(err)
		}
		before := make(chan punch.Outcome, 1)
		go func() { before <- s.Writer("us-east").Write(s.ctx, []punch.Item{late})[0] }()
		if !staysOpen(before) {
			t.Fatal("the writer did not wait: the test proves nothing")
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
		if !staysOpen(after) {
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
		} else if a, b := one.Receipt, other.Receipt; a.Replayed == b.Replayed || !a.RecordedAt.Equal(b.RecordedAt) ||
			a.HomeRegion != b.HomeRegion || a.TraceID != b.TraceID {
			t.Errorf("two receipts of one punch:\n%+v\n%+v", a, b)
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1 AND employee_id = 'late'`, company); n != 1 {
			t.Fatalf("%d rows of one punch", n)
		}
	})
}

// errKilled is the error of a killed mover's store.
var errKilled = errors.New("killed")

// killableStore is a store whose mover dies in one of its calls. The death comes before the call, or after the call and
// before its answer.
type killableStore struct {
	rehome.Store
	calls  int // calls until it dies
	answer bool
}

func callOrDie[T any](m *killableStore, call func() (T, error)) (none T, err error) {
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

func (m *killableStore) Flip(ctx context.Context, company string, to region.Name) (region.Move, error) {
	return callOrDie(m, func() (region.Move, error) { return m.Store.Flip(ctx, company, to) })
}

func (m *killableStore) Carry(ctx context.Context, which region.Move, limit int) (n int, differing []punch.Key, err error) {
	n, err = callOrDie(m, func() (int, error) {
		n, differing, err = m.Store.Carry(ctx, which, limit)
		return n, err
	})
	return n, differing, err
}

func (m *killableStore) Finish(ctx context.Context, which region.Move) (bool, error) {
	return callOrDie(m, func() (bool, error) { return m.Store.Finish(ctx, which) })
}

// TestAnotherMoverContinues kills a mover before and after each of its steps. Punches and retries are right at each of
// these moments, and the next mover finishes the move.
func TestAnotherMoverContinues(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, receipts := s.fill(company, 15)
		homes := []region.Name{"us-east", "eu-west"}
		for calls := 1; ; calls++ {
			for _, answer := range []bool{false, true} {
				from := s.where(company).Home
				to := homes[0]
				if from == to {
					to = homes[1]
				}
				m, err := rehome.New(rehome.Config{Batch: 10, Parallel: 1}, &killableStore{s.DB, calls, answer}, rehome.Deps{Log: discard,
					Meter: metricnoop.NewMeterProvider()})
				if err != nil {
					t.Fatal(err)
				}
				_, err = m.Company(s.ctx, company, to)
				if err == nil {
					if calls != 6 { // flip, two to carry, one that finds nothing, finish
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
				s.exec(`DELETE FROM punches WHERE company_id = $1 AND employee_id = 'new'`, company) // keeps the number of calls
				items, receipts = items[:15], receipts[:15]
			}
		}
	})
}

// finishedTwice is a store in which another mover finishes each move at the last moment.
type finishedTwice struct{ rehome.Store }

func (h finishedTwice) Finish(ctx context.Context, m region.Move) (bool, error) {
	if done, err := h.Store.Finish(ctx, m); err != nil || !done {
		return done, err
	}
	return h.Store.Finish(ctx, m)
}

// TestFinishedByAnother checks that a move which another mover finished is no failure.
func TestFinishedByAnother(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		items, _ := s.fill(company, 5)
		m, err := rehome.New(rehome.DefaultConfig(), finishedTwice{s.DB}, rehome.Deps{Log: discard, Meter: metricnoop.NewMeterProvider()})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := m.Company(s.ctx, company, "ap-south"); err != nil || r.Rows != 5 {
			t.Fatalf("%+v, %v", r, err)
		}
		s.wantRows(company, "ap-south", len(items))
	})
}

// TestAMoverOfThePast lets a mover continue after the company has moved away and is on its way back to the same home
// from another region. The mover must not finish that move.
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
			t.Errorf("%+v: the move was finished", now)
		}
		s.wantReceipts(items, receipts)
	})
}
