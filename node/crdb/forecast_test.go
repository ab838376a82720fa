package crdb

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
)

// crowd stores punches of many employees in one minute of a day that no other test uses, and returns the company.
func (s *store) crowd(home string, employees int, minute time.Time) (company string) {
	s.tb.Helper()
	company = s.company(home)
	s.exec(`INSERT INTO punches (crdb_region, company_id, day, employee_id, punch_id, kind, punched_at, received_at, recorded_at,
			zone, utc_offset, entry_region, late, review, fingerprint)
		SELECT $1::text::crdb_internal_region, $2::text, $3::timestamptz::date, 'e' || lpad(i::text, 4, '0'), gen_random_uuid(), 'in', $3, $3, $3,
			'Europe/Berlin', 7200, 'ap-south', false, false, $4::bytea
		FROM generate_series(1, $5::int) AS i`, home, company, minute, make([]byte, 16), employees)
	return company
}

// mustOpenForBackground opens the database as an account, with the connections of background work.
func (s *store) mustOpenForBackground(user string) *DB {
	s.tb.Helper()
	cfg := testConfig(s.server.URLAs(user, mustParse(s.tb, s.server.URL("us-east")).Database, "us-east"))
	cfg.MoveConnections = 1
	return s.mustOpenWith(cfg, testDeps())
}

func TestArrivalsAreCountedByTheCompanysClock(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		minute := time.Date(2021, 6, 14, 22, 30, 0, 0, time.UTC)
		s.crowd("eu-west", 7, minute.Add(12*time.Second))
		s.crowd("eu-west", 5, minute.Add(time.Minute))
		s.crowd("us-east", 3, minute) // another home
		db := s.mustOpenForBackground(OperatorRole)
		var list []Arrival
		await(t, "followers have the table and the punches", func() bool {
			got, complete, err := db.Arrivals(s.ctx, "eu-west", minute, 100)
			list = got
			return err == nil && complete && len(got) == 2
		})
		for _, a := range list {
			local := time.Date(2021, 6, 15, 0, 30, 0, 0, time.UTC) // summer time in Berlin
			want := Arrival{Entry: "ap-south", Zone: "Europe/Berlin", Minute: local, Punches: 7}
			if a.Punches == 5 {
				want.Minute, want.Punches = local.Add(time.Minute), 5
			}
			if a != want {
				t.Errorf("counted %+v, want %+v", a, want)
			}
		}
		if _, complete, err := db.Arrivals(s.ctx, "eu-west", minute, 11); err != nil || complete {
			t.Errorf("with a bound of 11 of 12 punches: complete %t, %v", complete, err)
		}
		if list, complete, err := db.Arrivals(s.ctx, "eu-west", minute.AddDate(0, 0, 1), 100); err != nil || !complete || len(list) > 0 {
			t.Errorf("a day without punches: %v, complete %t, %v", list, complete, err)
		}
	})
}

// TestArrivalsReadOneDay holds the plan: it must not read all punches of a home for one day of them.
func TestArrivalsReadOneDay(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		if s.Engine != CockroachDB {
			t.Skip("PostgreSQL reads a small table as a whole")
		}
		for name, sql := range map[string]string{"arrivals": arrivalsSQL, "crowds": crowdsSQL} {
			args := []any{"eu-west", time.Now(), 100}
			if name == "crowds" {
				args = append(args, 10)
			}
			rows, err := s.admin.Query(s.ctx, `EXPLAIN `+s.past(sql), append([]any{pgx.QueryExecModeExec}, args...)...)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			plan := strings.Join(lines, "\n")
			if err != nil || !strings.Contains(plan, "lookup join") || strings.Contains(plan, "table: punches@punches_pkey\n│           spans: FULL SCAN") {
				t.Errorf("%s: %v, the plan is\n%s", name, err, plan)
			}
		}
	})
}

// TestSplitMakesRanges splits with the account of a node, which has the right to insert punches and no more. The
// operator's account has no such right.
func TestSplitMakesRanges(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		like := time.Date(2021, 7, 5, 6, 30, 0, 0, time.UTC)
		day := like.AddDate(0, 0, 7).Truncate(24 * time.Hour)
		company := s.crowd("eu-west", 40, like)
		s.crowd("eu-west", 4, like)
		db := s.mustOpenForBackground(NodeRole)
		if s.Engine != CockroachDB {
			if _, err := db.Split(s.ctx, "eu-west", company, day, like, 4, day.AddDate(0, 0, 2)); err == nil || !strings.Contains(err.Error(), "no ranges") {
				t.Errorf("%v, want an error that says that there are no ranges", err)
			}
			return
		}
		var crowds []Crowd
		await(t, "followers have the table and the punches", func() bool {
			list, err := db.Crowds(s.ctx, "eu-west", like, 1000, 30)
			crowds = list
			return err == nil && len(list) > 0
		})
		if len(crowds) != 1 || crowds[0] != (Crowd{company, 40}) {
			t.Fatalf("crowds %v, want %s alone with 40", crowds, company)
		}
		expires := time.Now().Add(time.Hour)
		for range 2 { // a second run is harmless
			if borders, err := db.Split(s.ctx, "eu-west", company, day, like, 4, expires); err != nil || borders != 4 {
				t.Fatalf("%d borders, %v, want 4", borders, err)
			}
		}
		const inside = `SELECT count(*) FROM [SHOW RANGES FROM TABLE punches WITH KEYS] WHERE start_key LIKE '%' || $1 || '%'`
		if n := s.count(inside, company); n != 4 {
			t.Errorf("%d ranges of the company, want 4", n)
		}
		kept := s.count(`SELECT count(*) FROM crdb_internal.ranges_no_leases
			WHERE start_pretty LIKE '%' || $1 || '%' AND split_enforced_until BETWEEN now() + '50 minutes' AND now() + '70 minutes'`, company)
		if kept != 4 {
			t.Errorf("%d of 4 splits hold for about an hour", kept)
		}
		operator := s.mustOpenForBackground(OperatorRole)
		if _, err := operator.Split(s.ctx, "eu-west", company, day, like, 2, expires); err == nil || !strings.Contains(err.Error(), "INSERT") {
			t.Errorf("an operator's account splits ranges: %v", err)
		}
		// The split ranges take punches.
		items := []punch.Item{s.item(company, "eu-west", "e0020")}
		wantCode(t, db.Writer("eu-west").Write(s.ctx, items)[0], "")
	})
}

func TestBackgroundWorkNeedsItsConnections(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		err := s.background(s.ctx, nil)
		if err == nil || !strings.Contains(err.Error(), "MoveConnections") {
			t.Errorf("%v, want an error that names MoveConnections", err)
		}
		var quality string
		if s.Engine == CockroachDB {
			err := s.mustOpenForBackground(OperatorRole).background(s.ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
				return pool.QueryRow(ctx, `SHOW default_transaction_quality_of_service`).Scan(&quality)
			})
			if err != nil || quality != "background" {
				t.Errorf("priority %q, %v, want background", quality, err)
			}
		}
	})
}
