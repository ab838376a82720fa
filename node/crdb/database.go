// Package crdb stores punches and companies in CockroachDB. On one machine PostgreSQL may stand in for it. The package
// holds the schema, the batch writer, the queries, and the meaning of each database error. It does not queue and does
// not route. DESIGN.md has the reasons.
package crdb

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

//go:embed dml/*.sql
var dml embed.FS

func statement(name string) string {
	b, err := dml.ReadFile("dml/" + name + ".sql")
	if err != nil {
		panic(err) // the files are embedded: only a misspelt name fails
	}
	return string(b)
}

// Engine is the kind of database that the URL leads to.
type Engine string

// The engines. PostgreSQL cannot show how the loss of a region is survived.
const (
	CockroachDB Engine = "cockroach"
	PostgreSQL  Engine = "postgres"
)

// Config says how to reach the database.
type Config struct {
	// URL may name several gateways, the nearest first. Each gateway has its own pools, so that an attempt can be
	// repeated through another gateway.
	URL string
	// Home is the region whose statements a new connection for punches prepares before its first use. Empty means that
	// it prepares none.
	Home string
	// ConnectionsPerHome limits the concurrent statements of one home. Batchers keep to it, and the pool enforces it.
	// As many connections are kept idle.
	ConnectionsPerHome int
	// ReadConnections limits the concurrent reads of punches. One home can use half of them. Lookups of companies have
	// their own connections.
	ReadConnections int
	// MoveConnections limits the companies whose rows are carried at the same time. A node needs none.
	MoveConnections int
	ConnectTimeout  time.Duration
	// AttemptTimeout limits one statement. A gateway that accepts and never answers must leave time for another
	// gateway.
	AttemptTimeout time.Duration
}

// Validate returns an error that names the wrong field.
func (c Config) Validate() error {
	if _, err := pgxpool.ParseConfig(c.URL); err != nil {
		return fmt.Errorf("--database-url: %w", err)
	}
	for _, field := range []struct {
		name    string
		value   int64
		minimum int64
	}{
		{"ConnectionsPerHome", int64(c.ConnectionsPerHome), 1},
		{"ReadConnections", int64(c.ReadConnections), 1},
		{"MoveConnections", int64(c.MoveConnections), 0},
		{"ConnectTimeout", int64(c.ConnectTimeout), 1},
		{"AttemptTimeout", int64(c.AttemptTimeout), 1},
	} {
		if field.value < field.minimum {
			return fmt.Errorf("crdb: %s must be at least %d, is %d", field.name, field.minimum, field.value)
		}
	}
	return nil
}

// Deps are the sinks for logs, metrics and traces.
type Deps struct {
	Log    *slog.Logger
	Meter  metric.MeterProvider
	Tracer trace.TracerProvider
}

// DB is the database for one node. It is safe for concurrent use.
type DB struct {
	Engine  Engine
	Version string // the server's own text

	cfg          Config
	log          *slog.Logger
	metrics      metrics
	files        *tlsFiles
	gateways     *gateways
	readSlots    sync.Map       // home region to chan struct{}: a slot for each concurrent read
	unknownZones sync.Map       // time zones that this build does not know and that were logged
	refusalLog   rate.Sometimes // limits the log of refusals by the schema
}

// Open connects, detects the engine and prepares the pools. It tries until ctx is done, because a node may start before
// its database.
func Open(ctx context.Context, cfg Config, deps Deps) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	base, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	base.ConnConfig.ConnectTimeout = cfg.ConnectTimeout
	db := &DB{cfg: cfg, log: deps.Log, refusalLog: rate.Sometimes{Interval: time.Minute}, files: &tlsFiles{url: cfg.URL, log: deps.Log}}
	if db.metrics, err = newMetrics(deps.Meter); err != nil {
		return nil, err
	}
	if err := db.detect(ctx, base.ConnConfig); err != nil {
		return nil, err
	}
	if db.gateways, err = db.openGateways(ctx, base, deps); err != nil {
		return nil, err
	}
	return db, nil
}

// Close waits a short time for running statements, and closes all connections.
func (db *DB) Close() { db.gateways.close() }

func (db *DB) detect(ctx context.Context, cc *pgx.ConnConfig) error {
	for {
		// The URL's files are read again each time, because a bad file may have been the failure.
		if fresh, err := pgxpool.ParseConfig(db.cfg.URL); err == nil {
			fresh.ConnConfig.ConnectTimeout = cc.ConnectTimeout
			cc = fresh.ConnConfig
		}
		version, err := serverVersion(ctx, cc)
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
		if !sleep(ctx, retryInterval) {
			return fmt.Errorf("database: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

func serverVersion(ctx context.Context, cc *pgx.ConnConfig) (string, error) {
	conn, err := pgx.ConnectConfig(ctx, cc.Copy())
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the version was read
	var version string
	err = conn.QueryRow(ctx, "SELECT version()").Scan(&version)
	return version, err
}

// permanent reports errors that waiting does not fix: a wrong password, user or database name.
func permanent(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "28") || strings.HasPrefix(pg.Code, "3D"))
}

// Regions returns the labels of the database's regions. It tries until ctx is done.
func (db *DB) Regions(ctx context.Context) (list []string, err error) {
	err = db.retryUntilAnswer(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		list, err = labels(ctx, pool, db.Engine)
		return err
	})
	return list, err
}

// ClockOffset returns how far this clock is ahead of the database's clock. The error is at most half of the returned
// round trip.
func (db *DB) ClockOffset(ctx context.Context, clock func() time.Time) (offset, roundTrip time.Duration, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		conn, err := pool.Acquire(ctx) // before the clock is read, because connecting is not part of the round trip
		if err != nil {
			return err
		}
		defer conn.Release()
		var there time.Time
		sent := clock()
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&there); err != nil {
			return err
		}
		roundTrip = clock().Sub(sent)
		offset = sent.Add(roundTrip / 2).Sub(there)
		return nil
	})
	return offset, roundTrip, err
}
