package crdb

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// RegionObstacles returns what stands against taking a region from the
// database, each as a sentence that says what to do; none when it may go.
// existed is false when there is no such region. Nodes obey the evacuation in
// the database, so it is asked instead of them; served is false for a region
// that has no nodes.
func (db *DB) RegionObstacles(ctx context.Context, name string, served bool) (list []string, existed bool, err error) {
	uses, err := db.RegionUses(ctx)
	if err != nil {
		return nil, false, err
	}
	u := find(uses, name)
	if u.Name == "" {
		return nil, false, nil
	}
	list = u.inService(served)
	lives, err := db.companiesIn(ctx, u)
	if err != nil {
		return nil, true, err
	}
	last, err := db.requiredBy(ctx, uses, u)
	return append(append(list, lives...), last...), true, err
}

func (u *RegionUse) inService(served bool) []string {
	switch {
	case !served:
		return nil
	case !u.Evacuated:
		return []string{fmt.Sprintf("the region is in service: run `punchclock region evacuate %s` first, or say --without-nodes if it has none", u.Name)}
	case u.Until != nil:
		return []string{fmt.Sprintf("the region is evacuated only until %s: run `punchclock region evacuate %s`, without --for", u.Until.Format(time.RFC3339), u.Name)}
	default:
		return nil
	}
}

// companiesIn are the companies and rows that live in the region.
func (db *DB) companiesIn(ctx context.Context, u *RegionUse) (list []string, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		list = nil
		for _, side := range []struct {
			n             int
			column, about string
		}{
			{u.Homes, "home_region", "with their home here"},
			{u.Leaving, "moving_from", "that left, with rows still here"},
		} {
			if side.n == 0 {
				continue
			}
			some, err := sampleCompanies(ctx, pool, side.column, u.Name)
			if err != nil {
				return err
			}
			list = append(list, fmt.Sprintf("companies %s: %d, such as %s; run `punchclock region move-homes %s --to REGION`",
				side.about, side.n, strings.Join(some, ", "), u.Name))
		}
		if len(list) > 0 {
			return nil // rows follow from it
		}
		return orphanRows(ctx, pool, u.Name, &list)
	})
	return list, err
}

func sampleCompanies(ctx context.Context, q querier, column, name string) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT company_id FROM companies WHERE `+column+` = $1::text::crdb_internal_region ORDER BY company_id LIMIT 5`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// orphanRows are rows of companies that have nothing to do with the region. There
// must not be any.
func orphanRows(ctx context.Context, q querier, name string, list *[]string) error {
	tables, err := regionalTables(ctx, q)
	if err != nil {
		return err
	}
	for _, table := range tables {
		company, err := anyCompany(ctx, q, table, name)
		if err != nil {
			return err
		}
		if company != "" {
			*list = append(*list, fmt.Sprintf("table %s has rows here that belong to no company of this region, such as one of %s: keep them and find out why", table, company))
		}
	}
	return nil
}

// requiredBy tells what the database itself would lose with the region.
func (db *DB) requiredBy(ctx context.Context, uses []RegionUse, u *RegionUse) (list []string, err error) {
	if len(uses) == 1 {
		return []string{"it is the database's last region"}, nil
	}
	if db.Engine != CockroachDB {
		return nil, nil
	}
	var name, goal string
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		return pool.QueryRow(ctx, `SELECT current_database(), survival_goal FROM [SHOW SURVIVAL GOAL FROM DATABASE]`).Scan(&name, &goal)
	})
	name = pgx.Identifier{name}.Sanitize()
	if u.Primary {
		list = append(list, fmt.Sprintf(`it is the primary region, where the leases of the global tables are: make another one primary first (SQL: ALTER DATABASE %s SET PRIMARY REGION "REGION")`, name))
	}
	if goal == "region" && len(uses) == minRegions {
		list = append(list, fmt.Sprintf("with %d regions left the database could not survive the loss of one: add another region first, or give that promise up, so that a lost region's punches wait until it is back (SQL: ALTER DATABASE %s SURVIVE ZONE FAILURE)",
			minRegions-1, name))
	}
	return list, err
}

// minRegions is the least number of regions of which one can be lost.
const minRegions = 3
