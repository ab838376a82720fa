package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/node/crdb"
)

// commandTimeout bounds a command on the database. A schema change in three regions takes up to a minute on a small
// cluster, and an import of 100,000 companies some minutes.
const commandTimeout = 15 * time.Minute

// connectTimeout bounds the wait for a database that does not answer. An operator waits for the command.
const connectTimeout = 15 * time.Second

// database holds the flags of a command that uses the database.
type database struct {
	config.DB `embed:"" prefix:"database-"`
	Insecure  bool `help:"Connect to the database without TLS. Only for a database on loopback."`
}

// url returns the URL of the database. It is an error if the connection would be neither encrypted nor on loopback.
func (d *database) url() (string, error) {
	url, err := d.DatabaseURL()
	if err == nil {
		err = crdb.CheckTransport(url, d.Insecure)
	}
	return url, err
}

// begin opens the database and bounds the time of the command. Without an error the caller must call done.
func (d *database) begin(ctx context.Context) (_ context.Context, db *crdb.DB, done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	if db, err = d.open(ctx, 0); err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return ctx, db, func() { db.Close(); cancel() }, nil
}

// open opens the database. moves is the number of companies that move at the same time.
func (d *database) open(ctx context.Context, moves int) (*crdb.DB, error) {
	url, err := d.url()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	db, err := crdb.Open(ctx, crdb.Config{
		URL: url, ConnectionsPerHome: 1, ReadConnections: d.ReadConnections, MoveConnections: moves,
		ConnectTimeout: d.ConnectTimeout, AttemptTimeout: time.Minute, // a write to a global table may wait that long
	}, crdb.Deps{Log: slog.New(slog.DiscardHandler), Meter: metricnoop.NewMeterProvider(), Tracer: tracenoop.NewTracerProvider()})
	if err != nil {
		return nil, err
	}
	if err := db.CheckSchema(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// migrateCommand is `punchclock migrate`.
type migrateCommand struct {
	database
	Regions []string `help:"Regions that the database must have, the primary region first. The command removes no region."`
}

// Run implements the command.
func (c *migrateCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	url, err := c.url()
	if err != nil {
		return err
	}
	done, err := crdb.Migrate(ctx, url, c.Regions, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, name := range done.Applied {
		fmt.Fprintln(out, "applied", name)
	}
	if len(done.Applied) == 0 {
		fmt.Fprintln(out, "nothing to apply")
	}
	fmt.Fprintf(out, "%s schema version %d, regions %s\n", done.Engine, done.Version, strings.Join(done.Regions, ", "))
	return nil
}
