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
	// retryInterval is how often a start asks a database that does not answer: seldom
	// enough to be no load and often enough to be no delay.
	retryInterval = time.Second
	// transactionTimeout ends the attempts of a caller that named no end:
	// longer than any failover, shorter than an operator's patience.
	transactionTimeout = 5 * time.Minute
)

// transaction runs do in a transaction of several statements, and again while
// that can help; do must not mind, and must use the context it is given. A
// refusal of do's own, an *punch.Error, is returned as it is.
func (db *DB) transaction(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	return db.transactionOn(ctx, (*gateway).controlPool, do)
}

func (db *DB) transactionOn(ctx context.Context, pool func(*gateway) *pgxpool.Pool, do func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	for n := 0; ; n++ {
		g := db.gateways.pick(n)
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, db.cfg.AttemptTimeout)
		err := executeTx(attempt, pool(g), func(tx pgx.Tx) error { return do(attempt, tx) })
		cancel()
		why := classify(err)
		db.gateways.observe(g, why, time.Since(began))
		if _, refused := errors.AsType[*punch.Error](err); err == nil || refused {
			return err
		}
		if why == causeStale {
			g.resetPool(pool(g))
		}
		if why.isAnswer() || !sleep(ctx, backoff(why, n+1)) {
			return err
		}
		db.metrics.retried(ctx, why)
	}
}

// maxRestarts is how often a conflict is retried inside one transaction, which keeps its priority. Then a new transaction
// begins, perhaps through another gateway.
const maxRestarts = 5

// executeTx runs do in a transaction by cockroach-go: on a conflict it returns to a savepoint and runs do again.
//
// crdb.ExecuteInTx drops the error of COMMIT. On CockroachDB RELEASE has committed by then. On PostgreSQL COMMIT is what
// commits, so its error decides.
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

// query runs do on the control pool: for everything but the punches themselves.
func (db *DB) query(ctx context.Context, do func(context.Context, *pgxpool.Pool) error) error {
	return db.read(ctx, (*gateway).controlPool, do)
}

// retryUntilAnswer asks until there is an answer, or ctx ends: for what a start needs.
// What the server refuses, such as a table that is not there, is an answer.
func (db *DB) retryUntilAnswer(ctx context.Context, do func(context.Context, *pgxpool.Pool) error) error {
	for {
		err := db.query(ctx, do)
		if why := classify(err); why == causeNone || why.isAnswer() || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		db.log.WarnContext(ctx, "the database does not answer yet", "error", err)
		if !sleep(ctx, retryInterval) {
			return fmt.Errorf("database: %w", errors.Join(context.Cause(ctx), err))
		}
	}
}

// readPunches runs do on the reads pool once the home has its turn. A home has
// half of the connections at most: one that is away must not hold them all.
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
		return punch.Retryable(punch.Overloaded, time.Second, "too many reads of this home region are waiting; ask again", ctx.Err())
	}
	return db.read(ctx, func(g *gateway) *pgxpool.Pool { return g.reads }, do)
}

// maxStale is how often a read is run again while the gateways hear of a change
// of regions: some times what they take, with the pauses in between.
const maxStale = 10

// read runs do on a pool of the nearest host that works, and once more on
// another host when that one failed or did not answer.
func (db *DB) read(ctx context.Context, pool func(*gateway) *pgxpool.Pool, do func(context.Context, *pgxpool.Pool) error) error {
	const attempts = 2 // a read is repeated by its caller, so two hosts are enough
	stale := 0
	for i := 0; ; {
		g := db.gateways.pick(i)
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, db.attemptTimeout(ctx, attempts-i))
		err := do(attempt, pool(g))
		cancel()
		why := classify(err)
		db.gateways.observe(g, why, time.Since(began))
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if why.isAnswer() {
			return err
		}
		if why == causeStale && stale < maxStale {
			g.resetPool(pool(g))
			stale++
		} else if i++; i == attempts {
			return err
		}
		if !sleep(ctx, backoff(why, i+stale)) {
			return err
		}
		db.metrics.retried(ctx, why)
	}
}

// attemptTimeout is how long an attempt may take when so many are left, itself included:
// the last host must be reached within the caller's deadline.
func (db *DB) attemptTimeout(ctx context.Context, left int) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return db.cfg.AttemptTimeout
	}
	return min(db.cfg.AttemptTimeout, time.Until(deadline)/time.Duration(left))
}
