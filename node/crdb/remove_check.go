package crdb

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// RegionObstacles returns the reasons against removing a region from the database. Each reason is a sentence that says
// what to do. existed is false for an unknown region.
// The evacuation is read from the database, which nodes follow. served is false for a region without nodes, whose
// evacuation is not checked.
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
		return []string{fmt.Sprintf("the region is in service: run `punchclock region evacuate %s` first, or use --without-nodes if "+
			"it has no nodes", u.Name)}
	case u.Until != nil:
		return []string{fmt.Sprintf("the region is evacuated only until %s: run `punchclock region evacuate %s`, without --for",
			u.Until.Format(time.RFC3339), u.Name)}
	default:
		return nil
	}
}

// companiesIn returns an obstacle for the companies or rows in the region.
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
			return nil // their rows need no obstacle of their own
		}
		return orphanRows(ctx, pool, u.Name, &list)
	})
	return list, err
}

func sampleCompanies(ctx context.Context, q querier, column, name string) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT company_id FROM companies WHERE `+column+` = $1::text::crdb_internal_region
		ORDER BY company_id LIMIT 5`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// orphanRows finds rows of companies that neither have their home in the region nor left it. There must be none.
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
			*list = append(*list, fmt.Sprintf("table %s has rows here of companies that are not of this region, such as %s: keep the "+
				"rows and find the reason", table, company))
		}
	}
	return nil
}

// requiredBy returns an obstacle if the database itself needs the region.
func (db *DB) requiredBy(ctx context.Context, uses []RegionUse, u *RegionUse) (list []string, err error) {
	if len(uses) == 1 {
		return []string{"it is the last region of the database"}, nil
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
		list = append(list, fmt.Sprintf("it is the primary region with the leases of the global tables: make another region primary "+
			`first (SQL: ALTER DATABASE %s SET PRIMARY REGION "REGION")`, name))
	}
	if goal == "region" && len(uses) == minRegions {
		list = append(list, fmt.Sprintf("with %d regions left the database could not survive the loss of one: add another region "+
			"first, or accept that punches of a lost region wait until it is back (SQL: ALTER DATABASE %s SURVIVE ZONE FAILURE)",
			minRegions-1, name))
	}
	return list, err
}

// minRegions is the smallest number of regions of which one can be lost.
const minRegions = 3
