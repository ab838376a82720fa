// Package crdb keeps punches and companies in CockroachDB, or in PostgreSQL
// where that stands in on one machine: the schema, the batch writer, the
// queries, the company directory's source, and what each database error means.
// It does not queue and does not route.
package crdb

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/punch"
)

//go:embed dml/*.sql
var dml embed.FS

func statement(name string) string {
	b, err := dml.ReadFile("dml/" + name + ".sql")
	if err != nil {
		panic(err) // embedded at build time: only a misspelt name gets here
	}
	return string(b)
}

// Engine is the kind of database behind the URL.
type Engine string

// The engines. PostgreSQL cannot show the loss of a database region.
const (
	CockroachDB Engine = "cockroach"
	PostgreSQL  Engine = "postgres"
)

// Config says how to reach the database.
type Config struct {
	// URL may name several hosts, the nearest first. Each host gets pools of
	// its own, so that an attempt can be repeated through another one.
	URL string
	// ConnectionsPerHome bounds the statements in flight per home; the lanes
	// hold to it, the pool only guards it.
	ConnectionsPerHome int
	ReadConnections    int
	ConnectTimeout     time.Duration
	// AttemptTimeout bounds one statement, so that a host that accepts and
	// never answers leaves time for another.
	AttemptTimeout time.Duration
}

// Deps is what the database reports to.
type Deps struct {
	Log    *slog.Logger
	Meter  metric.MeterProvider
	Tracer trace.TracerProvider
}

// DB is the database as one node uses it. It is safe for concurrent use.
type DB struct {
	Engine  Engine
	Version string // as the database says it

	cfg     Config
	log     *slog.Logger
	metrics metrics
	hosts   *hosts
}

// Open connects, finds out which engine answers, and prepares the pools. It
// tries until ctx is done: a node may start before its database.
func Open(ctx context.Context, cfg Config, deps Deps) (*DB, error) {
	base, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	base.ConnConfig.ConnectTimeout = cfg.ConnectTimeout
	db := &DB{cfg: cfg, log: deps.Log}
	if db.metrics, err = newMetrics(deps.Meter); err != nil {
		return nil, err
	}
	if err := db.detect(ctx, base.ConnConfig); err != nil {
		return nil, err
	}
	if db.hosts, err = db.openHosts(ctx, base, deps); err != nil {
		return nil, err
	}
	return db, nil
}

// Close closes all connections and waits for the statements on them.
func (db *DB) Close() { db.hosts.close() }

func (db *DB) detect(ctx context.Context, cc *pgx.ConnConfig) error {
	for {
		version, err := askVersion(ctx, cc)
		if err == nil {
			db.Version, db.Engine = version, PostgreSQL
			if strings.HasPrefix(version, "CockroachDB") {
				db.Engine = CockroachDB
			}
			return nil
		}
		if permanent(err) {
			return fmt.Errorf("database: %w", err)
		}
		db.log.WarnContext(ctx, "the database does not answer yet", "error", err)
		if !pause(ctx, time.Second) { // once a second is seldom enough to be no load and often enough to be no delay
			return fmt.Errorf("database: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

func askVersion(ctx context.Context, cc *pgx.ConnConfig) (string, error) {
	conn, err := pgx.ConnectConfig(ctx, cc.Copy())
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the answer is in hand
	var version string
	err = conn.QueryRow(ctx, "SELECT version()").Scan(&version)
	return version, err
}

// permanent tells errors that waiting does not mend: a wrong password, user or
// database name.
func permanent(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "28") || strings.HasPrefix(pg.Code, "3D"))
}

// maxHomes bounds the pool where the number of regions is not known: with four
// statements per home it is a guard, not the limit that matters.
const maxHomes = 16

func (db *DB) openHosts(ctx context.Context, base *pgxpool.Config, deps Deps) (*hosts, error) {
	tracer := otelpgx.NewTracer(
		otelpgx.WithDisableAcquireTracer(), otelpgx.WithDisableConnectionDetailsInAttributes(),
		otelpgx.WithTracerProvider(deps.Tracer), otelpgx.WithMeterProvider(deps.Meter),
	)
	hs := &hosts{log: deps.Log}
	for i, addr := range addresses(base.ConnConfig) {
		h := &host{addr: addr.String()}
		for _, pool := range []struct {
			target **pgxpool.Pool
			name   string
			size   int
			params map[string]string
		}{
			{&h.hot, "punches", db.cfg.ConnectionsPerHome * maxHomes, db.hotParams()},
			{&h.reads, "reads", db.cfg.ReadConnections, db.readParams()},
		} {
			cfg := db.poolConfig(base, addr, pool.size, pool.params)
			cfg.ConnConfig.Tracer = tracer
			p, err := pgxpool.NewWithConfig(ctx, cfg)
			if err == nil && i == 0 {
				err = otelpgx.RecordStats(p, otelpgx.WithStatsMeterProvider(deps.Meter),
					otelpgx.WithStatsAttributes(poolName(pool.name)))
			}
			if err != nil {
				hs.close()
				return nil, fmt.Errorf("database pool for %s: %w", h.addr, err)
			}
			*pool.target = p
		}
		hs.all = append(hs.all, h)
	}
	hs.start()
	return hs, nil
}

func (db *DB) poolConfig(base *pgxpool.Config, addr address, size int, params map[string]string) *pgxpool.Config {
	cfg := base.Copy()
	cfg.ConnConfig.Host, cfg.ConnConfig.Port, cfg.ConnConfig.TLSConfig = addr.host, addr.port, addr.tls
	cfg.ConnConfig.Fallbacks = nil
	maps.Copy(cfg.ConnConfig.RuntimeParams, params)
	cfg.MaxConns = int32(min(size, 1024))
	// A connection at hand spares the first punch of a quiet minute, and the
	// first one after a change of hosts, the handshake.
	cfg.MinIdleConns = 1
	// Short enough that connections spread again after a host came back.
	cfg.MaxConnLifetime = 5 * time.Minute
	cfg.MaxConnLifetimeJitter = 30 * time.Second
	// An idle connection to a frozen host would otherwise hang its first user.
	cfg.PingTimeout = time.Second
	return cfg
}

func (db *DB) hotParams() map[string]string {
	params := map[string]string{
		"application_name": "punchclock punches",
		// Above the attempt's own time-out: it only ends statements whose
		// client is gone, so that they do not pile up behind a lock.
		"statement_timeout": fmt.Sprint((db.cfg.AttemptTimeout + time.Second).Milliseconds()),
	}
	if db.Engine == CockroachDB {
		// With few companies the optimizer would scan them all and make
		// every punch wait for the commit of any company's change.
		params["disallow_full_table_scans"] = "on"
		params["large_full_scan_rows"] = "0"
		params["default_transaction_quality_of_service"] = "critical"
	}
	return params
}

func (db *DB) readParams() map[string]string {
	return map[string]string{
		"application_name":  "punchclock reads",
		"statement_timeout": fmt.Sprint((db.cfg.AttemptTimeout + time.Second).Milliseconds()),
	}
}

// Regions returns the labels of the database's regions.
func (db *DB) Regions(ctx context.Context) ([]string, error) {
	var labels []string
	err := db.read(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, `SELECT unnest(enum_range(NULL::crdb_internal_region))::text`)
		if err != nil {
			return err
		}
		labels, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the database's regions: %w", err)
	}
	return labels, nil
}

// ClockOffset returns how far this machine's clock is ahead of the database's,
// give or take half of the returned round trip.
func (db *DB) ClockOffset(ctx context.Context) (offset, roundTrip time.Duration, err error) {
	err = db.read(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		conn, err := pool.Acquire(ctx) // before the clock is read: connecting is not part of the trip
		if err != nil {
			return err
		}
		defer conn.Release()
		var there time.Time
		sent := time.Now()
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&there); err != nil {
			return err
		}
		roundTrip = time.Since(sent)
		offset = sent.Add(roundTrip / 2).Sub(there)
		return nil
	})
	return offset, roundTrip, err
}

// transaction runs do in a transaction of several statements, and again while
// that can help; do must not mind. A refusal of do's own, an *punch.Error, is
// returned as it is.
func (db *DB) transaction(ctx context.Context, do func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		// pgx's transaction, not cockroach-go's: that one drops the error
		// of the commit itself.
		err := pgx.BeginFunc(ctx, db.hosts.pick(attempt-1).reads, do)
		if _, refused := errors.AsType[*punch.Error](err); err == nil || refused {
			return err
		}
		why := classify(err)
		if why == causeData || why == causeRefused || !pause(ctx, backoff(why, attempt)) {
			return err
		}
		db.metrics.retried(ctx, why)
	}
}

// read runs do on the reads pool of the nearest host that works, and once more
// on another host when that one failed or did not answer.
func (db *DB) read(ctx context.Context, do func(context.Context, *pgxpool.Pool) error) error {
	const attempts = 2 // a read is repeated by its caller, so two hosts are enough
	for i := 0; ; i++ {
		h := db.hosts.pick(i)
		attempt, cancel := context.WithTimeout(ctx, db.cfg.AttemptTimeout)
		err := do(attempt, h.reads)
		cancel()
		if err == nil || i+1 == attempts || ctx.Err() != nil || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		cause := classify(err)
		if cause == causeRefused {
			return err
		}
		db.hosts.note(h, cause)
		db.metrics.retried(ctx, cause)
	}
}
