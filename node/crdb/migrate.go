package crdb

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/punchclock/punchclock/region"
)

//go:embed schema
var schemas embed.FS

// Migrations says what Migrate did.
type Migrations struct {
	Engine  Engine
	Applied []string // file names in order; empty when the schema was up to date
	Version int64    // version of the schema
	Regions []string // regions of the database
}

// Migrate brings the schema up to date and adds the named regions to the database. The first region becomes the primary
// one. Without names the database must have regions already. Migrate can be repeated, and can run twice at the same
// time.
// The first run needs an administrator, who creates the roles and gives the database to the migrator. Later the
// migrator may run it.
func Migrate(ctx context.Context, url string, regions []string, log *slog.Logger) (Migrations, error) {
	for _, r := range regions {
		if _, err := region.ParseName(r); err != nil {
			return Migrations{}, fmt.Errorf("region %q: %w", r, err)
		}
	}
	var done Migrations
	var applied []string // by every attempt: a later one finds the schema up to date
	err := retryConcurrent(ctx, log, func() (err error) {
		done, err = migrateOnce(ctx, url, regions, log)
		applied = append(applied, done.Applied...)
		return err
	})
	done.Applied = applied
	return done, err
}

// retryConcurrent makes a change of the schema, and repeats it when it met another change or the locks of punches.
func retryConcurrent(ctx context.Context, log *slog.Logger, change func() error) error {
	for attempt := 1; ; attempt++ {
		err := change()
		// Two runs may create the same thing at the same time, and one of them gets an error. On CockroachDB the other
		// run may change regions for some seconds. Twenty attempts take longer than that.
		if err == nil || attempt == 20 || !isConcurrentDDL(err) || !sleep(ctx, backoff(causeUnavailable, attempt)) {
			return err
		}
		log.InfoContext(ctx, "the schema or a table is in use by another session; trying again", "error", err)
	}
}

// concurrentDDLCodes are the errors of one migration that meets another: a thing exists, is being changed, or does not
// exist yet. PostgreSQL answers XX000 when both change a right or an owner. 40P01 (deadlock) and 55P03 (lock timeout) mean
// that transactions of punches had locked the same tables.
var concurrentDDLCodes = []string{
	"40001", "40P01", "55P03", "42P07", "42710", "23505", "55006", "22023", "55000", "42704", "XX000",
}

func isConcurrentDDL(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(concurrentDDLCodes, pg.Code)
}

func migrateOnce(ctx context.Context, url string, regions []string, log *slog.Logger) (done Migrations, err error) {
	cc, err := pgx.ParseConfig(url)
	if err != nil {
		return done, fmt.Errorf("--database-url: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return done, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // no statement is running
	version, err := serverVersion(ctx, cc)
	if err != nil {
		return done, fmt.Errorf("read the database's version: %w", err)
	}
	done.Engine = PostgreSQL
	if strings.HasPrefix(version, "CockroachDB") {
		done.Engine = CockroachDB
	}
	if err := prepareRoles(ctx, conn, done.Engine); err != nil {
		return done, err
	}
	if done.Engine == CockroachDB {
		if err := awaitServers(ctx, conn, regions, serverPatience, log); err != nil {
			return done, err
		}
		if err := cockroachRegions(ctx, conn, regions); err != nil {
			return done, err
		}
	}
	if err := applySchema(ctx, cc, &done, log); err != nil {
		return done, err
	}
	if done.Engine == PostgreSQL {
		if err := postgresRegions(ctx, conn, regions); err != nil {
			return done, err
		}
	}
	if err := applyGrants(ctx, conn, done.Engine); err != nil {
		return done, err
	}
	done.Regions, err = labels(ctx, conn, done.Engine)
	if err == nil && len(done.Regions) == 0 {
		err = errors.New("the database has no regions: name them with --regions, the primary one first")
	}
	return done, err
}

// serverPatience bounds the wait for the servers of a region. Servers learn of each other by gossip, about a second after
// they have started. Ten seconds are enough on a busy machine, and short for a person who mistyped a region.
const serverPatience = 10 * time.Second

// awaitServers returns when each region has a server that the gateway knows, and errNoServer after patience. A
// deployment starts its servers and its migration at the same moment, and a server answers before the others know of it.
func awaitServers(ctx context.Context, conn *pgx.Conn, regions []string, patience time.Duration, log *slog.Logger) error {
	deadline := time.Now().Add(patience)
	for _, r := range regions {
		for attempt := 1; ; attempt++ {
			err := requireServer(ctx, conn, r)
			if err == nil {
				break
			}
			if !errors.Is(err, errNoServer) || time.Now().After(deadline) {
				return err
			}
			if attempt == 1 {
				log.InfoContext(ctx, "waiting for the servers of a region", "region", r)
			}
			if !sleep(ctx, regionPollInterval) {
				return err
			}
		}
	}
	return nil
}

func applySchema(ctx context.Context, cc *pgx.ConnConfig, done *Migrations, log *slog.Logger) error {
	files, err := fs.Sub(schemas, "schema/"+string(done.Engine))
	if err != nil {
		return err
	}
	// The lock is a row of a table, because CockroachDB has no advisory locks. Its holder renews it every 5 s. It is
	// free again 30 s after its holder died.
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableLogger(log),
		lock.WithTableLeaseDuration(30*time.Second), lock.WithTableHeartbeatInterval(5*time.Second),
		lock.WithTableLockTimeout(time.Second, 120))
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*cc, stdlib.OptionAfterConnect(setRole))
	defer db.Close() //nolint:errcheck // all statements have ended
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithLocker(locker), goose.WithSlog(log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		if r.Error == nil {
			done.Applied = append(done.Applied, r.Source.Path)
		}
	}
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	done.Version, err = provider.GetDBVersion(ctx)
	return err
}

// labelsSQL lists the database's regions in the order in which they were added. PostgreSQL cannot remove a label, so a
// label counts as a region when it has a partition.
var labelsSQL = map[Engine]string{
	CockroachDB: `SELECT unnest(enum_range(NULL::crdb_internal_region))::text`,
	PostgreSQL: `SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = 'crdb_internal_region'::regtype AND EXISTS (
		SELECT 1 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'homes'::regclass AND pg_get_expr(c.relpartbound, c.oid) = 'FOR VALUES IN (' || quote_literal(e.enumlabel) || ')')
		ORDER BY e.enumsortorder`,
}

func labels(ctx context.Context, conn querier, engine Engine) ([]string, error) {
	rows, err := conn.Query(ctx, labelsSQL[engine])
	if err != nil {
		return nil, fmt.Errorf("read the database's regions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// cockroachRegions adds missing regions. From three regions on, it makes the database survive the loss of one.
func cockroachRegions(ctx context.Context, conn *pgx.Conn, regions []string) error {
	database := pgx.Identifier{conn.Config().Database}.Sanitize()
	have, err := cockroachHas(ctx, conn, database)
	if err != nil {
		return err
	}
	for _, r := range regions {
		name := pgx.Identifier{r}.Sanitize()
		statement := `ALTER DATABASE ` + database + ` ADD REGION IF NOT EXISTS ` + name
		switch {
		case slices.Contains(have, r):
			continue
		case len(have) == 0:
			statement = `ALTER DATABASE ` + database + ` SET PRIMARY REGION ` + name
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		have = append(have, r)
	}
	// Another migration may have added regions, or may have stopped before this step.
	if have, err = cockroachHas(ctx, conn, database); err != nil || len(have) < minRegions {
		return err
	}
	var goal string
	if err := conn.QueryRow(ctx, `SELECT survival_goal FROM [SHOW SURVIVAL GOAL FROM DATABASE `+database+`]`).Scan(&goal); err != nil {
		return fmt.Errorf("read the database's survival goal: %w", err)
	}
	if goal == "region" {
		return nil
	}
	statement := `ALTER DATABASE ` + database + ` SURVIVE REGION FAILURE`
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func cockroachHas(ctx context.Context, conn *pgx.Conn, database string) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT region FROM [SHOW REGIONS FROM DATABASE `+database+`]`)
	if err != nil {
		return nil, fmt.Errorf("read the database's regions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// postgresRegions adds a label and partitions for each region.
func postgresRegions(ctx context.Context, conn *pgx.Conn, regions []string) error {
	for _, r := range regions {
		label := strings.ReplaceAll(r, "'", "''") // ParseName allows no quote; this holds if ParseName changes
		statements := []string{`ALTER TYPE crdb_internal_region ADD VALUE IF NOT EXISTS '` + label + `'`}
		for _, table := range []string{"homes", "punches"} {
			statements = append(statements, `CREATE TABLE IF NOT EXISTS `+partition(table, r)+` PARTITION OF `+table+` FOR VALUES IN ('`+label+`')`)
		}
		for _, s := range statements {
			if _, err := conn.Exec(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
	}
	return nil
}

// partition returns the name of a table's partition for a region on PostgreSQL.
func partition(table, region string) string {
	return pgx.Identifier{table + "_" + strings.ReplaceAll(region, "-", "_")}.Sanitize()
}

// CheckSchema returns an error when the schema is older than this program needs. The error says which command to run. A
// newer schema is accepted, because releases overlap in an upgrade. CheckSchema tries until ctx is done.
func (db *DB) CheckSchema(ctx context.Context) error {
	files, err := fs.Glob(schemas, "schema/"+string(db.Engine)+"/*.sql")
	if err != nil {
		return err
	}
	var need int64
	for _, name := range files {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return err
		}
		need = max(need, v)
	}
	var have int64
	err = db.retryUntilAnswer(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		return pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&have)
	})
	var pg *pgconn.PgError
	if err != nil && (!errors.As(err, &pg) || pg.Code != "42P01") { // 42P01: the table of versions does not exist
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have < need {
		return fmt.Errorf("the database's schema has version %d and this program needs %d: run `punchclock migrate` first", have, need)
	}
	return nil
}
