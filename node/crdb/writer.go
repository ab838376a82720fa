package crdb

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

var (
	insertSQL   = statement("insert")
	readbackSQL = statement("readback")
	existSQL    = `SELECT company_id FROM companies WHERE company_id = ANY ($1::text[])`

	// inTransitSQL is insertSQL for companies whose rows are still being carried here. It may follow only a read-back
	// that found the row in neither region. While this fence stands, no row is inserted at the old home. A carried row
	// arrives in the transaction in which it leaves.
	inTransitSQL = replace(insertSQL, "\n    AND h.moving_from IS NULL", "")

	insertLookupSQL    = withLookupJoins(insertSQL)
	inTransitLookupSQL = withLookupJoins(inTransitSQL)
	readbackLookupSQL  = withLookupJoins(readbackSQL)
)

// withLookupJoins returns a statement for CockroachDB. With few companies and fresh statistics the optimizer would scan
// all fence rows of a home. Then every punch would wait for the change of any company. PostgreSQL does not know the
// hint.
// A serializable transaction needs no lock on the fence, and on CockroachDB the lock would need the right to change
// homes.
func withLookupJoins(sql string) string {
	return strings.NewReplacer("\nJOIN", "\nINNER LOOKUP JOIN", "\nLEFT JOIN", "\nLEFT LOOKUP JOIN", "\nFOR SHARE OF h", "").Replace(sql)
}

func replace(sql, old, with string) string {
	if strings.Count(sql, old) != 1 {
		panic("statement without " + old) // the files are embedded at build time
	}
	return strings.Replace(sql, old, with, 1)
}

// dialect returns the statement for the engine.
func (db *DB) dialect(cockroach, postgres string) string {
	if db.Engine == CockroachDB {
		return cockroach
	}
	return postgres
}

func (db *DB) insertSQL() string    { return db.dialect(insertLookupSQL, insertSQL) }
func (db *DB) inTransitSQL() string { return db.dialect(inTransitLookupSQL, inTransitSQL) }
func (db *DB) readbackSQL() string  { return db.dialect(readbackLookupSQL, readbackSQL) }

// Writer commits batches of punches of one home. Each attempt is one statement in its own transaction. Rows without an
// answer are read back, and then the same statement runs again. That is safe because a key is stored once and never
// changed.
type Writer struct {
	db   *DB
	home string
}

// Writer returns the writer for a home, which must be a region of the database.
func (db *DB) Writer(home string) *Writer { return &Writer{db: db, home: home} }

// maxUnresolved limits the repetitions for rows that were neither inserted nor found. Each repetition needs another
// statement on the same key, or a move of the company, between insert and read-back.
const maxUnresolved = 4

// Write stores the punches of a batch and returns their outcomes in order. It tries until ctx is done. Then the
// remaining punches are Unavailable.
func (w *Writer) Write(ctx context.Context, items []punch.Item) []punch.Outcome {
	rows := groupRows(items)
	refusals := maxRefusals
	w.resolve(ctx, rows, &refusals)
	outcomes := outcomesOf(items, rows)
	w.count(ctx, outcomes)
	return outcomes
}

// resolve tries until each row is stored or has an error. refusals is how many refused statements the batch may still
// cost.
func (w *Writer) resolve(ctx context.Context, rows []*row, refusals *int) {
	unresolved := 0
	for attempt := 0; ; attempt++ {
		g := w.db.gateways.pick(attempt)
		began := time.Now()
		err := w.attempt(ctx, g, rows, attempt)
		reason := classify(err)
		w.db.gateways.observe(g, reason, time.Since(began))
		if rows = openRows(rows); len(rows) == 0 {
			return
		}
		switch reason {
		case causeData, causeConstraint:
			w.isolate(ctx, rows, reason, err, refusals)
			return
		case causeNone:
			reason, unresolved = causeUnresolved, unresolved+1
		case causeNoRegion:
			fail(rows, notHome(0))
			return
		case causeLicence:
			w.db.log.ErrorContext(ctx, "CockroachDB throttles because it has no licence: punches are refused", "error", err)
		case causeStale:
			g.resetPool(g.writes)
		}
		w.db.metrics.retried(ctx, reason)
		if unresolved > maxUnresolved || !sleep(ctx, backoff(reason, attempt+1)) {
			fail(rows, punch.Retryable(punch.Unavailable, time.Second,
				"the database did not confirm the punch in time; send it again with the same id", errors.Join(err, ctx.Err())))
			return
		}
	}
}

// maxRefusals limits the refused statements of one batch. Finding one bad row among 512 takes ten. A schema that
// refuses every row would cost a thousand.
const maxRefusals = 64

// schemaRetryAfter is the wait that a device is told after a rule of the schema refused its punch. An operator must act
// first, and retries must not fill the queue meanwhile.
const schemaRetryAfter = time.Minute

// isolate finds the refused rows by halving, so that the other rows do not fail with them. Only a value that cannot be
// stored at all makes the refusal final.
func (w *Writer) isolate(ctx context.Context, rows []*row, reason cause, err error, refusals *int) {
	*refusals--
	switch {
	case len(rows) > 1 && *refusals > 0:
		w.resolve(ctx, rows[:len(rows)/2], refusals)
		w.resolve(ctx, rows[len(rows)/2:], refusals)
	case len(rows) == 1 && reason == causeData:
		fail(rows, &punch.Error{Code: punch.Invalid, Message: "the database cannot store a value of this punch", Err: err})
	default:
		w.db.refusalLog.Do(func() {
			w.db.log.ErrorContext(ctx, "the database refuses valid punches; is this node newer than the schema?", "punches", len(rows), "error", err)
		})
		fail(rows, punch.Retryable(punch.Unavailable, schemaRetryAfter,
			"the punch could not be stored; keep it and send it again with the same id", err))
	}
}

// shortestAttempt is enough for a statement between regions on a new connection. A shorter rest of a deadline is not
// divided.
const shortestAttempt = time.Second

// attempt inserts the rows and reads back the rows that the insert did not return. Rows of companies that are moving
// here take a second insert.
func (w *Writer) attempt(ctx context.Context, g *gateway, rows []*row, n int) error {
	// A peer's punch has less time than a caller's. The second gateway must be reached within that time, too.
	ctx, cancel := context.WithTimeout(ctx, max(w.db.attemptTimeout(ctx, 2), shortestAttempt))
	defer cancel()
	trace.SpanFromContext(ctx).SetAttributes(tracing.Attempt.Int(n+1), attribute.String("punchclock.database.host", g.addr))
	if err := w.insert(ctx, g, w.db.insertSQL(), rows); err != nil {
		return err
	}
	rows = openRows(rows)
	if len(rows) == 0 {
		return nil
	}
	missing, inTransit, err := w.readBack(ctx, g, rows)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		w.resolveMissing(ctx, g, missing)
	}
	if len(inTransit) == 0 {
		return nil
	}
	w.db.metrics.countInTransit(ctx, w.home, len(inTransit))
	return w.insert(ctx, g, w.db.inTransitSQL(), inTransit)
}

func (w *Writer) insert(ctx context.Context, g *gateway, sql string, rows []*row) error {
	returned, err := g.writes.Query(ctx, sql, insertArgs(w.home, rows)...)
	if err != nil {
		return err
	}
	byKey := make(map[punch.Key]*row, len(rows))
	for _, r := range rows {
		byKey[r.punch.Key()] = r
	}
	var (
		key        punch.Key
		id         [16]byte
		day        time.Time
		recordedAt time.Time
		inserted   = make([]*row, 0, len(rows))
	)
	_, err = pgx.ForEachRow(returned, []any{&key.Company, &day, &key.Employee, &id, &recordedAt}, func() error {
		key.ID = id
		if r := byKey[key]; r != nil {
			inserted = append(inserted, r)
		}
		return nil
	})
	if err != nil {
		return err // rows that came before an error prove nothing
	}
	for _, r := range inserted {
		r.stored = &punch.Stored{Receipt: r.punch.Receipt(recordedAt)}
	}
	return nil
}

// readBack explains the rows that the insert did not return. Rows in missing have a company
// without a home in this region. Rows in inTransit are in neither region, and their company is moving here.
func (w *Writer) readBack(ctx context.Context, g *gateway, rows []*row) (missing, inTransit []*row, err error) {
	found, err := g.writes.Query(ctx, w.db.readbackSQL(), keyArgs(w.home, rows)...)
	if err != nil {
		return nil, nil, err
	}
	var (
		ord      int64
		epoch    *int64
		carrying bool
		rec      scannedPunch
	)
	_, err = pgx.ForEachRow(found, append([]any{&ord, &epoch, &carrying}, rec.targets()...), func() error {
		r := rows[ord-1]
		switch {
		case rec.Kind != nil:
			r.stored = rec.stored(r.punch.Key())
		case epoch == nil:
			missing = append(missing, r)
		case *epoch != r.punch.Epoch:
			r.err = notHome(*epoch)
		case carrying:
			inTransit = append(inTransit, r)
		}
		return nil
	})
	return missing, inTransit, err
}

// missingTimeout limits how long stored rows of the batch wait for this answer. It is many times what a read of a
// global table normally takes.
const missingTimeout = 500 * time.Millisecond

// resolveMissing distinguishes a company with another home from an unknown company. Only this step reads the global
// table, because such a read waits while the region with the lease is down. Without an answer the row is NotHome, so
// the entry node asks the database itself.
func (w *Writer) resolveMissing(ctx context.Context, g *gateway, rows []*row) {
	ctx, cancel := context.WithTimeout(ctx, missingTimeout)
	defer cancel()
	exists, err := existingCompanies(ctx, g, rows)
	for _, r := range rows {
		if err != nil || exists[r.punch.Company] {
			r.err = notHome(0)
		} else {
			r.err = punch.Errorf(punch.UnknownCompany, "there is no company %s", r.punch.Company)
		}
	}
}

func existingCompanies(ctx context.Context, g *gateway, rows []*row) (map[string]bool, error) {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.punch.Company
	}
	found, err := g.writes.Query(ctx, existSQL, ids)
	if err != nil {
		return nil, err
	}
	known, err := pgx.CollectRows(found, pgx.RowTo[string])
	exists := make(map[string]bool, len(known))
	for _, id := range known {
		exists[id] = true
	}
	return exists, err
}

func notHome(epoch int64) error {
	return punch.Errorf(punch.NotHome, "the company's home has changed, to epoch %d", epoch)
}

func openRows(rows []*row) []*row {
	var left []*row
	for _, r := range rows {
		if !r.resolved() {
			left = append(left, r)
		}
	}
	return left
}

func fail(rows []*row, err error) {
	for _, r := range rows {
		r.err = err
	}
}

func (w *Writer) count(ctx context.Context, outcomes []punch.Outcome) {
	counts := make(map[string]int, 4)
	for i := range outcomes {
		switch {
		case outcomes[i].Err != nil:
			counts[string(punch.CodeOf(outcomes[i].Err))]++
		case outcomes[i].Receipt.Replayed:
			counts["replayed"]++
		default:
			counts["recorded"]++
		}
	}
	for result, n := range counts {
		w.db.metrics.results(ctx, w.home, result, n)
	}
}
