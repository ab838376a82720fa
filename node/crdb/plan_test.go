package crdb

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/punch"
)

// TestPlan holds the plan of the hot statement. With few companies an
// optimizer likes to scan them all, which would make every punch wait for any
// company's change.
func TestPlan(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		name := "p" + strings.ReplaceAll(punch.NewID().String(), "-", "")
		if err := s.server.CreateDatabase(s.ctx, name); err != nil {
			t.Fatal(err)
		}
		url := s.server.URLOf(name, "us-east")
		if _, err := Migrate(s.ctx, url, regions, testDeps().Log); err != nil {
			t.Fatal(err)
		}
		db := mustOpen(t, s.server, url)
		made := 0
		for _, companies := range []int{3, 3000} {
			for ; made < companies; made += 300 {
				list := make([]Company, min(300, companies-made))
				for i := range list {
					list[i] = Company{ID: fmt.Sprintf("c%d", made+i), Name: "x", HomeRegion: regions[(made+i)%3], TimeZone: "UTC"}
				}
				if _, err := db.CreateCompanies(s.ctx, list); err != nil {
					t.Fatal(err)
				}
			}
			made = companies
			if err := analyze(db); err != nil {
				t.Fatal(err)
			}
			plan := explain(t, db, 200)
			t.Logf("with %d companies:\n%s", companies, plan)
			checkPlan(t, db.Engine, plan)
		}
	})
}

func analyze(db *store) error {
	pool := db.hosts.pick(0).reads
	if _, err := pool.Exec(db.ctx, "ANALYZE homes"); err != nil {
		return err
	}
	_, err := pool.Exec(db.ctx, "ANALYZE punches")
	return err
}

func explain(t *testing.T, db *store, rows int) string {
	t.Helper()
	items := make([]punch.Item, rows)
	for i := range items {
		items[i] = db.item(fmt.Sprintf("c%d", i%3*3), "us-east", fmt.Sprintf("e%d", i))
		items[i].Ctx = context.Background()
	}
	result, err := db.hosts.pick(0).hot.Query(db.ctx, "EXPLAIN "+db.insertSQL(), insertArgs("us-east", rowsOf(items))...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func checkPlan(t *testing.T, engine Engine, plan string) {
	t.Helper()
	var want, refuse []string
	switch engine {
	case CockroachDB:
		want = []string{"distribution: local", "auto commit", "lookup join (anti)", "lookup join"}
		refuse = []string{"FULL SCAN", "hash join", "merge join", "cross join"}
	case PostgreSQL: // the one partition, and no other's rows are locked
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
