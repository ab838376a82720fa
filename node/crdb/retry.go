package crdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
)

const (
	// retryInterval is the interval of attempts during a start: no load for the database, and no delay for the start.
	retryInterval = time.Second
	// transactionTimeout ends the attempts of a caller without a deadline. It is longer than any failover.
	transactionTimeout = 5 * time.Minute
)

// transaction runs do in a transaction of several statements, and repeats it while a repetition can help. do must be
// idempotent and use the context that it gets. An *punch.Error of do is returned unchanged.
func (db *DB) transaction(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	return db.transactionOn(ctx, (*gateway).controlPool, do)
}

// noRegionRetries is how often a statement off the path of punches is repeated for which a region is unknown. For a
// moment after a change of regions, a connection of CockroachDB may still refuse the label of a region that exists. Eight
// attempts take 2 s.
const noRegionRetries = 8

func (db *DB) transactionOn(ctx context.Context, pool func(*gateway) *pgxpool.Pool, do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	for n := 0; ; n++ {
		g := db.gateways.pick(n)
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, db.cfg.AttemptTimeout)
		err := executeTx(attempt, pool(g), func(tx pgx.Tx) error { return do(attempt, tx) })
		cancel()
		reason := classify(err)
		db.gateways.observe(g, reason, time.Since(began))
		if _, refused := errors.AsType[*punch.Error](err); err == nil || refused {
			return err
		}
		stale := reason == causeStale || reason == causeNoRegion && n < noRegionRetries
		if stale {
			g.resetPool(pool(g))
		}
		if reason.isAnswer() && !stale || !sleep(ctx, backoff(reason, n+1)) {
			return err
		}
		db.metrics.retried(ctx, reason)
	}
}

// maxRestarts limits the retries of a conflict inside one transaction, which keeps its priority. After that a new
// transaction begins, perhaps through another gateway.
const maxRestarts = 5

// executeTx runs do in a transaction of cockroach-go. After a conflict it returns to a savepoint and runs do again.
//
// crdb.ExecuteInTx drops the error of COMMIT. On CockroachDB RELEASE has committed by then. On PostgreSQL COMMIT does,
// so its error decides.
func executeTx(ctx context.Context, pool *pgxpool.Pool, do func(pgx.Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	recorder := &commitRecorder{tx: tx}
	if err := crdb.ExecuteInTx(crdb.WithMaxRetries(ctx, maxRestarts), recorder, func() error { return do(tx) }); err != nil {
		return err
	}
	return recorder.err
}

// commitRecorder is a crdb.Tx that keeps the error of COMMIT.
type commitRecorder struct {
	tx  pgx.Tx
	err error
}

// Exec implements crdb.Tx.
func (r *commitRecorder) Exec(ctx context.Context, sql string, args ...any) error {
	_, err := r.tx.Exec(ctx, sql, args...)
	return err
}

// Commit implements crdb.Tx.
func (r *commitRecorder) Commit(ctx context.Context) error {
	r.err = r.tx.Commit(ctx)
	return r.err
}

// Rollback implements crdb.Tx. When ctx has ended, pgx closes the connection instead.
func (r *commitRecorder) Rollback(ctx context.Context) error { return r.tx.Rollback(ctx) }

// query runs do on the control pool, which serves all statements except those on punches.
func (db *DB) query(ctx context.Context, do func(context.Context, *pgxpool.Pool) error) error {
	return db.read(ctx, (*gateway).controlPool, noRegionRetries, do)
}

// retryUntilAnswer repeats do until the database answers or ctx ends. A start needs it. A refusal, such as for a
// missing table, is an answer.
func (db *DB) retryUntilAnswer(ctx context.Context, do func(context.Context, *pgxpool.Pool) error) error {
	for {
		err := db.query(ctx, do)
		if reason := classify(err); reason == causeNone || reason.isAnswer() || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		db.log.WarnContext(ctx, "the database does not answer yet", "error", err)
		if !sleep(ctx, retryInterval) {
			return fmt.Errorf("database: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// readPunches runs do on the reads pool in one of the home's slots. A home has half of the connections, so that a home
// whose database is down cannot hold them all.
func (db *DB) readPunches(ctx context.Context, home string, do func(context.Context, *pgxpool.Pool) error) error {
	found, ok := db.readSlots.Load(home)
	if !ok {
		found, _ = db.readSlots.LoadOrStore(home, make(chan struct{}, max(1, db.cfg.ReadConnections/2)))
	}
	turn := found.(chan struct{})
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return punch.Retryable(punch.Overloaded, time.Second, "too many reads of this home region are waiting; try again", ctx.Err())
	}
	return db.read(ctx, func(g *gateway) *pgxpool.Pool { return g.reads }, 0, do) // an unknown region means a stale route
}

// maxStale limits the repetitions of a read after a change of regions. With the pauses in between they take several
// times as long as gateways need to learn of it.
const maxStale = 10

// read runs do through the nearest healthy gateway, and once more through another when the first failed or did not
// answer. An answer that a region is unknown is repeated maxNoRegion times.
func (db *DB) read(
	ctx context.Context, pool func(*gateway) *pgxpool.Pool, maxNoRegion int, do func(context.Context, *pgxpool.Pool) error,
) error {
	const attempts = 2 // two gateways are enough, because the caller repeats a failed read
	stale := 0
	for i := 0; ; {
		g := db.gateways.pick(i)
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, db.attemptTimeout(ctx, attempts-i))
		err := do(attempt, pool(g))
		cancel()
		reason := classify(err)
		db.gateways.observe(g, reason, time.Since(began))
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		again := reason == causeStale && stale < maxStale || reason == causeNoRegion && stale < maxNoRegion
		if reason.isAnswer() && !again {
			return err
		}
		if again {
			g.resetPool(pool(g))
			stale++
		} else if i++; i == attempts {
			return err
		}
		if !sleep(ctx, backoff(reason, i+stale)) {
			return err
		}
		db.metrics.retried(ctx, reason)
	}
}

// attemptTimeout returns the time of an attempt when left attempts remain, including this one. The last gateway must be
// reached before the caller's deadline.
func (db *DB) attemptTimeout(ctx context.Context, left int) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return db.cfg.AttemptTimeout
	}
	return min(db.cfg.AttemptTimeout, time.Until(deadline)/time.Duration(left))
}
