package crdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
)

// prepare runs the statements of a punch without a punch. The first punch on the connection then does not wait until
// the server has planned them. One text serves all homes, because the home is a parameter.
func (db *DB) prepare(ctx context.Context, conn *pgx.Conn) error {
	return db.prepareAll(ctx, conn,
		prepared{db.insertSQL(), insertArgs(db.cfg.Home, nil)}, prepared{db.readbackSQL(), keyArgs(db.cfg.Home, nil)})
}

// prepareLookup does the same for the lookup of a company that the directory does not know.
func (db *DB) prepareLookup(ctx context.Context, conn *pgx.Conn) error {
	return db.prepareAll(ctx, conn, prepared{homeSQL, []any{""}})
}

// prepareRead does the same for the look at a punch that may be recorded already.
func (db *DB) prepareRead(ctx context.Context, conn *pgx.Conn) error {
	return db.prepareAll(ctx, conn, prepared{findSQL, []any{db.cfg.Home, db.cfg.Home, "", time.Time{}, "", [16]byte{}}})
}

type prepared struct {
	sql  string
	args []any
}

// prepareAll runs statements that find and change nothing. The tools of an operator have no home and prepare nothing.
func (db *DB) prepareAll(ctx context.Context, conn *pgx.Conn, statements ...prepared) (err error) {
	if db.cfg.Home == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, db.cfg.ConnectTimeout)
	defer cancel()
	for _, s := range statements {
		if _, err = conn.Exec(ctx, s.sql, s.args...); err != nil {
			break
		}
	}
	if !conn.IsClosed() {
		return nil // the server refused: the connection is good, and a punch gets the error
	}
	return err
}

// prepareCounter counts the statements that are prepared on the connections of a pool.
type prepareCounter struct {
	*otelpgx.Tracer
	pool    string
	metrics metrics
}

// TracePrepareStart implements pgx.PrepareTracer.
func (c *prepareCounter) TracePrepareStart(ctx context.Context, conn *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	c.metrics.prepares.Add(ctx, 1, metric.WithAttributes(poolName(c.pool)))
	return c.Tracer.TracePrepareStart(ctx, conn, data)
}

// warmPoll is the interval at which Warm looks at a pool: pgxpool does not say when its connections are open. The
// interval is short beside a handshake.
const warmPoll = 10 * time.Millisecond

// Warm waits until the idle connections of each gateway are open and prepared. It also reads the homes once through each
// gateway, so that the server knows where their rows are. It gives up when ctx ends. The error names the gateways and
// homes that are not warm: their first punches wait for what is missing, and nothing else does.
func (db *DB) Warm(ctx context.Context, homes []string) error {
	errs := make([]error, len(db.gateways.all))
	var all sync.WaitGroup
	for i, g := range db.gateways.all {
		all.Go(func() {
			err := db.warm(ctx, g, homes)
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", g.addr, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// warm warms a gateway. A gateway that refuses ends the wait, because its pools try again only after a while.
func (db *DB) warm(ctx context.Context, g *gateway, homes []string) error {
	if _, err := g.ping(ctx); err != nil {
		return err
	}
	for pool, idle := range map[*pgxpool.Pool]int{g.writes: db.cfg.ConnectionsPerHome, g.reads: 1, g.control: 1} {
		for int(pool.Stat().IdleConns()) < idle {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(warmPoll):
			}
		}
	}
	reads := new(errgroup.Group)
	reads.SetLimit(db.cfg.ConnectionsPerHome) // more would open connections that no punch needs
	errs := make([]error, len(homes))
	for i, home := range homes {
		reads.Go(func() error {
			errs[i] = db.touch(ctx, g, home)
			return nil // one home must not cancel the others
		})
	}
	_ = reads.Wait() // the errors are in errs
	return errors.Join(errs...)
}

// touch reads a key that no punch has. On CockroachDB a gateway learns where the rows of the home are, and connects to
// their server. A home whose servers are away must not keep the connection: others need it.
func (db *DB) touch(ctx context.Context, g *gateway, home string) error {
	ctx, cancel := context.WithTimeout(ctx, db.cfg.ConnectTimeout)
	defer cancel()
	args := []any{home, []string{""}, []time.Time{{}}, []string{""}, [][16]byte{{}}}
	if _, err := g.writes.Exec(ctx, db.readbackSQL(), args...); err != nil {
		return fmt.Errorf("home %s: %w", home, err)
	}
	return nil
}
