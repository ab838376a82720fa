package crdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// adminPool is a pool of a user who may create tables.
func (s *store) adminPool() *pgxpool.Pool {
	s.tb.Helper()
	pool, err := pgxpool.New(s.ctx, s.admin.Config().ConnString())
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(pool.Close)
	return pool
}

// TestACommitThatFailsIsAnError makes COMMIT fail by a foreign key that is checked at the end. cockroach-go alone
// returns nil, although nothing is stored. CockroachDB has no deferred constraints.
func TestACommitThatFailsIsAnError(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		if s.Engine != PostgreSQL {
			t.Skip("only PostgreSQL commits by COMMIT after RELEASE")
		}
		s.exec(`CREATE TABLE parents (id INT8 PRIMARY KEY)`)
		s.exec(`CREATE TABLE children (id INT8 PRIMARY KEY, parent INT8 REFERENCES parents DEFERRABLE INITIALLY DEFERRED)`)
		defer s.exec(`DROP TABLE children, parents`)
		err := executeTx(s.ctx, s.adminPool(), func(tx pgx.Tx) error {
			_, err := tx.Exec(s.ctx, `INSERT INTO children VALUES (1, 1)`)
			return err
		})
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "23503" {
			t.Errorf("a commit that failed returned %v, want SQLSTATE 23503", err)
		}
		if n := s.count(`SELECT count(*) FROM children`); n != 0 {
			t.Errorf("%d rows", n)
		}
	})
}

// TestConflictsAreRetriedInPlace lets two transactions read a row before either writes it. On CockroachDB one of them
// gets 40001 and runs again inside the same transaction. On PostgreSQL the row's lock orders them.
func TestConflictsAreRetriedInPlace(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		s.exec(`CREATE TABLE counters (id INT8 PRIMARY KEY, n INT8)`)
		defer s.exec(`DROP TABLE counters`)
		s.exec(`INSERT INTO counters VALUES (1, 0)`)
		pool := s.adminPool()
		lock := ``
		if s.Engine == PostgreSQL {
			lock = ` FOR UPDATE`
		}
		var runs atomic.Int32
		var both, done sync.WaitGroup
		both.Add(2)
		errs := make([]error, 2)
		for i := range errs {
			first := true
			done.Go(func() {
				errs[i] = executeTx(s.ctx, pool, func(tx pgx.Tx) error {
					runs.Add(1)
					if first && s.Engine == CockroachDB { // wait for the other, so that both have read before one writes
						first = false
						var n int
						if err := tx.QueryRow(s.ctx, `SELECT n FROM counters WHERE id = 1`).Scan(&n); err != nil {
							return err
						}
						both.Done()
						both.Wait()
					}
					var n int
					if err := tx.QueryRow(s.ctx, `SELECT n FROM counters WHERE id = 1`+lock).Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(s.ctx, `UPDATE counters SET n = $1 WHERE id = 1`, n+1)
					return err
				})
			})
		}
		done.Wait()
		if n := s.count(`SELECT n FROM counters`); errs[0] != nil || errs[1] != nil || n != 2 {
			t.Errorf("n is %d after two increments: %v, %v", n, errs[0], errs[1])
		}
		if s.Engine == CockroachDB && runs.Load() < 3 {
			t.Errorf("the transactions ran %d times: nothing was in conflict", runs.Load())
		}
	})
}

// failingOnce is a transaction in which one statement fails once.
type failingOnce struct {
	pgx.Tx
	sql string
	err error
}

func (f *failingOnce) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if sql == f.sql {
		return nil, f.err
	}
	return f.Tx.Query(ctx, sql, args...)
}

// TestAConflictIsNotCorruption makes the comparison of two homes' rows fail with a conflict. The operator must not be
// told that the homes have unlike rows.
func TestAConflictIsNotCorruption(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		i := s.item(company, "us-east", "e1")
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{i})[0], "")
		m, err := s.Flip(s.ctx, company, region.Name("eu-west"))
		if err != nil {
			t.Fatal(err)
		}
		// The row is at the new home as well. So carrying it inserts nothing, and the rows are compared.
		i.Route.HomeRegion, i.Route.Epoch = "eu-west", m.Epoch
		columns := s.columns()
		s.exec(`INSERT INTO punches (crdb_region, `+columns+`) SELECT 'eu-west', `+columns+` FROM punches WHERE company_id = $1`, company)

		tx, err := s.admin.Begin(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(s.ctx) //nolint:errcheck // nothing is kept
		_, _, err = carry(s.ctx, &failingOnce{Tx: tx, sql: differingSQL, err: &pgconn.PgError{Code: "40001"}}, m, 10)
		if reason := classify(err); reason != causeConflict {
			t.Errorf("%v is classified %q", err, reason)
		}
		if _, corrupt := errors.AsType[*punch.Error](err); err == nil || corrupt {
			t.Errorf("the conflict became %v, which is not retried", err)
		}
	})
}

// columns returns the columns of punches without the region.
func (s *store) columns() (list string) {
	s.tb.Helper()
	if err := s.admin.QueryRow(s.ctx, `SELECT string_agg(column_name, ', ') FROM information_schema.columns
		WHERE table_name = 'punches' AND table_schema = 'public' AND column_name <> 'crdb_region'`).Scan(&list); err != nil {
		s.tb.Fatal(err)
	}
	return list
}

// TestAPreloadContinuesWhereItStopped stops the database's answers in the middle of a preload. Pages that were read are
// not read again.
func TestAPreloadContinuesWhereItStopped(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		// These ids come before all others of the shared database, also those of an earlier run.
		const companies = 10
		first := math.MaxInt64 - time.Now().UnixNano()
		var want []string
		var list []Company
		for n := range companies {
			want = append(want, fmt.Sprintf("0-%019d-%d", first, n))
			list = append(list, Company{ID: want[n], Name: t.Name(), HomeRegion: "us-east", TimeZone: "UTC"})
		}
		if outcomes, err := s.CreateCompanies(s.ctx, list); err != nil || slices.ContainsFunc(outcomes, func(err error) bool { return err != nil }) {
			t.Fatalf("%v, %v", outcomes, err)
		}
		logged := new(logs)
		dsn := s.cfg.URL
		g := mustProxy(t, firstAddress(t, dsn))
		cfg := testConfig(through(t, g, dsn, 0))
		cfg.AttemptTimeout = time.Second
		db := s.mustOpenWith(cfg, logged.deps())

		seen := make(map[string]int)
		var waiting sync.WaitGroup
		defer waiting.Wait()
		err := db.homes(s.ctx, companies, 3, func(company string, _ region.Home) {
			seen[company]++
			if len(seen) == 6 && seen[company] == 1 { // at the end of the second page
				g.mute.Store(true)
				waiting.Go(func() {
					for !strings.Contains(logged.String(), "does not answer yet") && s.ctx.Err() == nil {
						time.Sleep(10 * time.Millisecond) // poll
					}
					g.mute.Store(false)
				})
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		for n, company := range want {
			if seen[company] == 0 || n < 3 && seen[company] > 1 {
				t.Errorf("company %d was passed %d times; the first page must be read once", n, seen[company])
			}
		}
		passed := make(map[string]bool)
		if err := db.homes(s.ctx, 7, 3, func(company string, _ region.Home) { passed[company] = true }); err != nil || len(passed) != 7 {
			t.Errorf("%d companies were passed, want 7: %v", len(passed), err)
		}
	})
}
