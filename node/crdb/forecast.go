package crdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	arrivalsSQL  = statement("arrivals")
	crowdsSQL    = statement("crowds")
	employeesSQL = statement("employees")
)

// past returns the statement for the engine. On CockroachDB it reads a few seconds old rows from the nearest replica and
// takes nothing from the servers that write punches.
func (db *DB) past(sql string) string {
	if db.Engine == CockroachDB {
		return replace(withLookupJoins(sql), "/* follower reads */", "AS OF SYSTEM TIME follower_read_timestamp()")
	}
	return sql
}

// Arrival is how many punches arrived in one minute.
type Arrival struct {
	Entry   string    // region in which they arrived
	Zone    string    // time zone of their companies
	Minute  time.Time // by the clock of the zone; the location is UTC and means nothing
	Punches int64
}

// Arrivals counts the punches of a home with this id day, by entry region, zone and minute of arrival. It reads at most
// limit rows. complete is false if the day has more.
func (db *DB) Arrivals(ctx context.Context, home string, day time.Time, limit int64) (list []Arrival, complete bool, err error) {
	err = db.background(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, db.past(arrivalsSQL), home, day, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Arrival])
		return err
	})
	total := int64(0)
	for _, a := range list {
		total += a.Punches
	}
	return list, total <= limit, err
}

// Crowd is a company whose punches are many at the same time.
type Crowd struct {
	Company string
	Busiest int64 // punches of its busiest minute
}

// Crowds returns the companies of a home that had at least busiest punches in one minute of an id day, of the first
// limit rows.
func (db *DB) Crowds(ctx context.Context, home string, day time.Time, limit, busiest int64) (list []Crowd, err error) {
	err = db.background(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, db.past(crowdsSQL), home, day, limit, busiest)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Crowd])
		return err
	})
	return list, err
}

// background runs do at the priority of background work, so that punches go first.
func (db *DB) background(ctx context.Context, do func(context.Context, *pgxpool.Pool) error) error {
	if db.cfg.MoveConnections == 0 {
		return errors.New("MoveConnections must be 1 or more for background work, is 0")
	}
	return db.read(ctx, (*gateway).movesPool, noRegionRetries, do)
}

// Split divides a company's punches of a day into parts, each a range of its own, until expires. The parts hold about as
// many employees each as punched on the day like. It returns the number of the new ranges' borders. Splitting needs the
// right to insert punches. Only CockroachDB has ranges.
func (db *DB) Split(ctx context.Context, home, company string, day, like time.Time, parts int, expires time.Time) (borders int, err error) {
	if db.Engine != CockroachDB {
		return 0, fmt.Errorf("%s has no ranges: nothing is split", db.Engine)
	}
	var starts []string
	err = db.background(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, db.past(employeesSQL), home, company, like, parts)
		if err != nil {
			return err
		}
		starts, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return 0, err
	}
	// The first part begins before every employee, and the day after is not part of the crowd.
	if len(starts) > 0 {
		starts[0] = ""
	}
	until := expires.UTC().Format(time.DateTime)
	return len(starts), db.background(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		for _, employee := range starts {
			at := literals(home, company, day.Format(time.DateOnly), employee)
			if _, err := pool.Exec(ctx, `ALTER TABLE punches SPLIT AT VALUES `+at+` WITH EXPIRATION `+literals(until)); err != nil {
				return fmt.Errorf("split %s on %s: %w", company, day.Format(time.DateOnly), err)
			}
		}
		from, to := day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly)
		if _, err := pool.Exec(ctx, `ALTER TABLE punches SCATTER FROM `+literals(home, company, from)+` TO `+literals(home, company, to)); err != nil {
			return fmt.Errorf("spread the ranges of %s: %w", company, err)
		}
		return nil
	})
}

// literals returns a list of text literals: these statements take no parameters everywhere.
func literals(values ...string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
	}
	return "(" + strings.Join(quoted, ", ") + ")"
}
