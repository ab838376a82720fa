package crdb

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
)

// plans checks the plan of the statement for punches. With few companies an optimizer scans them all. Then every
// punch would wait for the change of any company.
func plans(t *testing.T, db *store) {
	made := 0
	for _, companies := range []int{3, 3000} {
		for ; made < companies; made += 300 {
			list := make([]Company, min(300, companies-made))
			for i := range list {
				list[i] = Company{ID: fmt.Sprintf("c%d", made+i), Name: "x", HomeRegion: regions[(made+i)%3], TimeZone: "UTC"}
			}
			if _, err := db.CreateCompanies(db.ctx, list); err != nil {
				t.Fatal(err)
			}
		}
		made = companies
		if err := analyze(db); err != nil {
			t.Fatal(err)
		}
		rows := rowsToPlan(db, 200)
		plan := explain(t, db, db.gateways.pick(0).writes, db.insertSQL(), insertArgs("us-east", rows)...)
		t.Logf("with %d companies:\n%s", companies, plan)
		checkPlan(t, db.Engine, plan)
		checkOtherPlans(t, db, rows)
		if plan := explain(t, db, db.gateways.pick(0).reads, companySQL+switchedWhere, 100); companies > 3 &&
			!strings.Contains(plan, "companies_switched") {
			t.Errorf("a status reads all companies:\n%s", plan)
		}
	}
}

// analyze uses a connection without a statement timeout, because a busy machine needs many seconds.
func analyze(db *store) error {
	for _, table := range []string{"companies", "homes", "punches"} {
		if _, err := db.admin.Exec(db.ctx, "ANALYZE "+table); err != nil {
			return err
		}
	}
	return nil
}

func rowsToPlan(db *store, n int) []*row {
	items := make([]punch.Item, n)
	for i := range items {
		items[i] = db.item(fmt.Sprintf("c%d", i%3*3), "us-east", fmt.Sprintf("e%d", i))
		items[i].Ctx = context.Background()
	}
	return groupRows(items)
}

func explain(t *testing.T, db *store, pool *pgxpool.Pool, sql string, args ...any) string {
	t.Helper()
	result, err := pool.Query(db.ctx, "EXPLAIN "+sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	lines, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// checkOtherPlans checks that all other statements on punches look rows up by key, however few rows there are. On
// CockroachDB a read of a company that does not move must not touch another region. PostgreSQL may scan a small table.
func checkOtherPlans(t *testing.T, db *store, rows []*row) {
	t.Helper()
	if db.Engine != CockroachDB {
		return
	}
	h, key, now := db.gateways.pick(0), rows[0].punch.Key(), time.Now()
	id, day := [16]byte(key.ID), key.ID.Day()
	span := []any{"eu-west", "us-east", key.Company, day, key.Employee, id}
	list := daysOf(punch.Query{From: now.Add(-24 * time.Hour), To: now})
	for _, c := range []struct {
		name, sql, refuse string
		pool              *pgxpool.Pool
		args              []any
	}{
		{"insert while rows are carried", db.inTransitSQL(), "", h.writes, insertArgs("us-east", rows)},
		{"read-back", db.readbackSQL(), "", h.writes, keyArgs("us-east", rows)},
		{"find", findSQL, "/eu-west", h.reads, []any{"us-east", "us-east", key.Company, day, key.Employee, id}},
		{"list", listSQL, "/eu-west", h.reads, []any{"us-east", "us-east", key.Company, list, key.Employee, now.Add(-24 * time.Hour),
			now, now.Add(-24 * time.Hour), id, 100}},
		{"carry", carrySQL, "", h.control, span},
		{"differing", differingSQL, "", h.control, span},
		{"newest", newestSQL, "", h.control, []any{"eu-west", key.Company, 500}},
		{"delete", deleteSQL, "", h.control, []any{"eu-west", key.Company, day, key.Employee, id}},
		{"left", leftSQL, "", h.control, []any{"eu-west", key.Company}},
	} {
		plan := explain(t, db, c.pool, c.sql, c.args...)
		for _, s := range []string{"FULL SCAN", c.refuse} {
			if s != "" && strings.Contains(plan, s) {
				t.Errorf("%s: the plan has %q:\n%s", c.name, s, plan)
			}
		}
	}
}

func checkPlan(t *testing.T, engine Engine, plan string) {
	t.Helper()
	var want, refuse []string
	switch engine {
	case CockroachDB:
		want = []string{"distribution: local", "auto commit", "lookup join (anti)", "lookup join"}
		refuse = []string{"FULL SCAN", "hash join", "merge join", "cross join"}
	case PostgreSQL: // one partition; no rows of another are locked
		want = []string{"homes_us_east", "LockRows"}
		refuse = []string{"homes_eu_west", "homes_ap_south"}
	}
	for _, s := range want {
		if !strings.Contains(plan, s) {
			t.Errorf("the plan has no %q:\n%s", s, plan)
		}
	}
	for _, s := range refuse {
		if strings.Contains(plan, s) {
			t.Errorf("the plan has %q:\n%s", s, plan)
		}
	}
}
