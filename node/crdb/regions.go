package crdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/region"
)

// RegionUse is a region of the database and its use.
type RegionUse struct {
	Name string `json:"name"`
	// Primary is set for the region where CockroachDB keeps the leases of the global tables.
	Primary bool `json:"primary"`
	// Homes is the number of companies with their home here.
	Homes int `json:"homes"`
	// Arriving is the number of these companies with rows in another region.
	Arriving int `json:"arriving"`
	// Leaving is the number of companies with their home in another region and rows here.
	Leaving int `json:"leaving"`
	// Evacuated is the operator's switch. Until is its end, if it has one.
	Evacuated bool       `json:"evacuated"`
	Until     *time.Time `json:"until,omitempty"`
	// Level is the level of degradation that an operator has set.
	Level uint8 `json:"level"`
}

// RegionUses returns all regions of the database.
func (db *DB) RegionUses(ctx context.Context) ([]RegionUse, error) {
	names, err := db.Regions(ctx)
	if err != nil {
		return nil, err
	}
	uses := make([]RegionUse, len(names))
	for i, name := range names {
		uses[i].Name = name
	}
	err = errors.Join(db.countHomes(ctx, uses), db.findPrimary(ctx, uses), db.findSwitched(ctx, uses))
	return uses, err
}

// find returns the entry of a region, or an empty one when a change has removed the region.
func find(uses []RegionUse, name string) *RegionUse {
	for i := range uses {
		if uses[i].Name == name {
			return &uses[i]
		}
	}
	return new(RegionUse)
}

func (db *DB) countHomes(ctx context.Context, uses []RegionUse) error {
	return db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, `SELECT home_region::text, coalesce(moving_from::text, ''), count(*) FROM companies GROUP BY 1, 2`)
		if err != nil {
			return err
		}
		for i := range uses { // a failed attempt may have counted some
			uses[i].Homes, uses[i].Arriving, uses[i].Leaving = 0, 0, 0
		}
		var home, from string
		var n int
		_, err = pgx.ForEachRow(rows, []any{&home, &from, &n}, func() error {
			find(uses, home).Homes += n
			if from != "" {
				find(uses, home).Arriving += n
				find(uses, from).Leaving += n
			}
			return nil
		})
		return err
	})
}

func (db *DB) findPrimary(ctx context.Context, uses []RegionUse) error {
	if db.Engine != CockroachDB {
		return nil
	}
	var primary string
	err := db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		return pool.QueryRow(ctx, `SELECT region FROM [SHOW REGIONS FROM DATABASE] WHERE "primary"`).Scan(&primary)
	})
	find(uses, primary).Primary = true
	return err
}

func (db *DB) findSwitched(ctx context.Context, uses []RegionUse) error {
	list, err := db.Switches(ctx)
	now := time.Now()
	for _, s := range list {
		u := find(uses, string(s.Region))
		switch s.Kind {
		case region.Evacuation:
			if u.Evacuated = s.LevelAt(now) > 0; u.Evacuated && !s.Until.IsZero() {
				u.Until = &s.Until
			}
		case region.Degradation:
			u.Level = s.LevelAt(now)
		}
	}
	return err
}

// connect opens a connection for changes of the schema, which outlast the timeout of the pools' statements.
func (db *DB) connect(ctx context.Context) (*pgx.Conn, error) {
	cc, err := pgx.ParseConfig(db.cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	cc.ConnectTimeout = db.cfg.ConnectTimeout
	return pgx.ConnectConfig(ctx, cc)
}

// AddRegion adds a region to the database. It returns when companies may have their home there, and reports whether the
// region existed before. AddRegion may be repeated after any failure. It calls say for each step.
func (db *DB) AddRegion(ctx context.Context, name string, say func(step string)) (existed bool, err error) {
	if _, err := region.ParseName(name); err != nil {
		return false, fmt.Errorf("region %q: %w", name, err)
	}
	err = retryConcurrent(ctx, db.log, func() error {
		conn, err := db.connect(ctx)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // no statement is running
		have, err := labels(ctx, conn, db.Engine)
		if err != nil {
			return err
		}
		existed = slices.Contains(have, name)
		if db.Engine == PostgreSQL {
			say("creating partitions for " + name)
			return postgresRegions(ctx, conn, []string{name})
		}
		if err := requireServer(ctx, conn, name); err != nil {
			return err
		}
		say("adding the region to the database")
		if err := cockroachRegions(ctx, conn, []string{name}); err != nil {
			return err
		}
		return db.awaitRegion(ctx, conn, name, say)
	})
	return existed, err
}

var errNoServer = errors.New("start its servers first")

// requireServer refuses a region in which no server of the database runs, with errNoServer.
func requireServer(ctx context.Context, conn *pgx.Conn, name string) error {
	rows, err := conn.Query(ctx, `SELECT region FROM [SHOW REGIONS FROM CLUSTER] WHERE region IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("read the cluster's regions: %w", err)
	}
	there, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && !slices.Contains(there, name) {
		err = fmt.Errorf("no server of the database is up in region %s (they are in %s): %w, with "+
			"--locality=region=%s,zone=ZONE, then run this again", name, strings.Join(there, ", "), errNoServer, name)
	}
	return err
}

// regionPollInterval is the interval of checks while a region is added. CockroachDB takes half a second on three idle
// nodes.
const regionPollInterval = 500 * time.Millisecond

// awaitRegion returns when rows can be stored in the region. Each regional table must have its partition, and each
// gateway must accept the label. Gateways learn of the region one after the other. A run that was interrupted, or
// another run, leaves the region incomplete for a while.
func (db *DB) awaitRegion(ctx context.Context, conn *pgx.Conn, name string, say func(string)) error {
	tables, err := regionalTables(ctx, conn)
	if err != nil {
		return err
	}
	for reported := ""; ; {
		missing, err := db.missingPart(ctx, conn, tables, name)
		if err != nil || missing == "" {
			return err
		}
		if missing != reported {
			say("waiting for " + missing)
			reported = missing
		}
		if !sleep(ctx, regionPollInterval) {
			return fmt.Errorf("region %s is not usable yet: %s is missing; run this again: %w", name, missing, context.Cause(ctx))
		}
	}
}

// missingPart names the first part that the region does not have yet.
func (db *DB) missingPart(ctx context.Context, conn *pgx.Conn, tables []string, name string) (string, error) {
	for _, table := range tables {
		var partitions int
		query := `SELECT count(*) FROM [SHOW PARTITIONS FROM TABLE ` + pgx.Identifier{table}.Sanitize() + `] WHERE partition_name = $1`
		if err := conn.QueryRow(ctx, query, name).Scan(&partitions); err != nil {
			return "", fmt.Errorf("%s: %w", query, err)
		}
		if partitions == 0 {
			return "the partition of table " + table, nil
		}
	}
	for _, g := range db.gateways.all {
		err := acceptsLabel(ctx, g, name)
		switch classify(err) {
		case causeNone:
		case causeNoRegion, causeStale:
			return "the label at gateway " + g.addr, nil
		default: // an unreachable gateway knows the label when it is back
			db.log.WarnContext(ctx, "a gateway could not be asked about the new region", "gateway", g.addr, "error", err)
		}
	}
	return "", nil
}

func acceptsLabel(ctx context.Context, g *gateway, name string) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err := g.control.Exec(ctx, `SELECT EXISTS (SELECT 1 FROM homes WHERE crdb_region = $1::text::crdb_internal_region)`, name)
	return err
}

// regionalTables returns the tables whose rows live in a region. A newer release may have added some.
func regionalTables(ctx context.Context, conn querier) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE a.attname = 'crdb_region' AND c.relkind IN ('r', 'p') AND NOT coalesce(c.relispartition, false)
			AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
		ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("read the regional tables: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// RemoveRegion removes a region from the database. It refuses while the region has any row. RegionObstacles finds the
// other reasons. RemoveRegion may be repeated after any failure.
func (db *DB) RemoveRegion(ctx context.Context, name string) error {
	return retryConcurrent(ctx, db.log, func() error {
		conn, err := db.connect(ctx)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // no statement is running
		if db.Engine == PostgreSQL {
			return removePartitions(ctx, conn, name)
		}
		return dropRegion(ctx, conn, name)
	})
}

func dropRegion(ctx context.Context, conn *pgx.Conn, name string) error {
	database := pgx.Identifier{conn.Config().Database}.Sanitize()
	statement := `ALTER DATABASE ` + database + ` DROP REGION IF EXISTS ` + pgx.Identifier{name}.Sanitize()
	if _, err := conn.Exec(ctx, statement); err != nil {
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "2BP01" { // a company that was created meanwhile
			err = fmt.Errorf("region %s still has rows: %w", name, err)
		}
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// removalLockTimeout bounds the wait for the lock of each table. Punches of all regions queue behind this wait. PostgreSQL
// looks for a deadlock after 1 s, and a writer that locks the same tables in another order would lose its transaction.
const removalLockTimeout = `SET LOCAL lock_timeout = '500ms'`

// removePartitions locks the tables before it looks for rows, because PostgreSQL drops a partition together with its
// rows. It fails when another transaction keeps a table for longer than removalLockTimeout.
func removePartitions(ctx context.Context, conn *pgx.Conn, name string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, removalLockTimeout); err != nil {
			return err
		}
		tables, err := regionalTables(ctx, tx)
		if err != nil {
			return err
		}
		for _, table := range tables {
			if _, err := tx.Exec(ctx, `LOCK TABLE `+pgx.Identifier{table}.Sanitize()+` IN ACCESS EXCLUSIVE MODE`); err != nil {
				return fmt.Errorf("lock table %s: %w", table, err)
			}
		}
		for _, table := range tables {
			company, err := anyCompany(ctx, tx, table, name)
			if err != nil {
				return err
			}
			if company != "" {
				return fmt.Errorf("region %s still has rows: %s has rows of company %s", name, table, company)
			}
			if _, err := tx.Exec(ctx, `DROP TABLE IF EXISTS `+partition(table, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// anyCompany returns a company with rows of the table in the region, or "". Every regional key begins with region and
// company.
func anyCompany(ctx context.Context, q querier, table, name string) (string, error) {
	query := `SELECT company_id FROM ` + pgx.Identifier{table}.Sanitize() + ` WHERE crdb_region = $1::text::crdb_internal_region LIMIT 1`
	rows, err := q.Query(ctx, query, name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", query, err)
	}
	company, err := pgx.CollectOneRow(rows, pgx.RowTo[string])
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return company, err
}
