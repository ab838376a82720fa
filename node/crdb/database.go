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
	// Home is the region whose statements a new connection for punches learns
	// before it is used; none when empty.
	Home string
	// ConnectionsPerHome bounds the statements in flight per home; the lanes
	// hold to it, the pool only guards it. As many connections lie idle.
	ConnectionsPerHome int
	// ReadConnections bounds the reads of punches in flight; one home takes
	// half of them at most. Look-ups of companies have connections of their own.
	ReadConnections int
	// MoveConnections bounds the companies that are carried at the same time. A
	// node carries none and needs none.
	MoveConnections int
	ConnectTimeout  time.Duration
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

	cfg          Config
	log          *slog.Logger
	metrics      metrics
	files        *tlsFiles
	gateways     *gateways
	readSlots    sync.Map       // home region to chan struct{}: the reads it has in flight
	unknownZones sync.Map       // time zones that this machine does not know, once logged
	refusalLog   rate.Sometimes // logs refusals by the schema
}

// Open connects, finds out which engine answers, and prepares the pools. It
// tries until ctx is done: a node may start before its database.
func Open(ctx context.Context, cfg Config, deps Deps) (*DB, error) {
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

// Close closes all connections and waits for the statements on them, but not
// long where the database does not answer.
func (db *DB) Close() { db.gateways.close() }

func (db *DB) detect(ctx context.Context, cc *pgx.ConnConfig) error {
	for {
		// Each time as the URL's files are now: they may have been what failed.
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

// Regions returns the labels of the database's regions. It tries until ctx is
// done.
func (db *DB) Regions(ctx context.Context) (list []string, err error) {
	err = db.retryUntilAnswer(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		list, err = labels(ctx, pool, db.Engine)
		return err
	})
	return list, err
}

// ClockOffset returns how far the clock is ahead of the database's, give or take half of the returned round trip.
func (db *DB) ClockOffset(ctx context.Context, clock func() time.Time) (offset, roundTrip time.Duration, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		conn, err := pool.Acquire(ctx) // before the clock is read: connecting is not part of the trip
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
