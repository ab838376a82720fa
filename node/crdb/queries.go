package crdb

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
)

var (
	findSQL = statement("find")
	listSQL = statement("list")
)

// scannedPunch reads one stored punch from a result. A field is nil when an outer join found no row.
type scannedPunch struct {
	Home                              *string // home when the punch was recorded
	Kind                              *string
	PunchedAt, ReceivedAt, RecordedAt *time.Time
	Zone, EntryRegion, TraceID        *string
	UTCOffset                         *int32
	Late, Review                      *bool
}

// targets are the columns home_region … trace_id in the order of the statements.
func (s *scannedPunch) targets() []any {
	return []any{
		&s.Home, &s.Kind, &s.PunchedAt, &s.ReceivedAt, &s.RecordedAt, &s.Zone, &s.UTCOffset,
		&s.EntryRegion, &s.Late, &s.Review, &s.TraceID,
	}
}

func (s *scannedPunch) stored(key punch.Key) *punch.Stored {
	stored := &punch.Stored{Receipt: punch.Receipt{
		Company: key.Company, Employee: key.Employee, ID: key.ID, Kind: punch.Kind(*s.Kind),
		PunchedAt: s.PunchedAt.UTC(), ReceivedAt: s.ReceivedAt.UTC(), RecordedAt: s.RecordedAt.UTC(),
		Zone: *s.Zone, UTCOffset: *s.UTCOffset, HomeRegion: *s.Home, EntryRegion: *s.EntryRegion,
		Late: *s.Late, NeedsReview: *s.Review,
	}}
	if s.TraceID != nil {
		stored.TraceID = *s.TraceID
	}
	return stored
}

// Find returns the punch with this key. It returns a NotFound *punch.Error, or NotHome when the company's home is in
// another region.
func (db *DB) Find(ctx context.Context, home string, key punch.Key) (*punch.Stored, error) {
	args := []any{key.Company, key.ID.Day(), key.Employee, [16]byte(key.ID)}
	var stored *punch.Stored
	err := db.readAt(ctx, home, findSQL, args, func() { stored = nil }, func(r *scannedPunch, k punch.Key) {
		k.Company = key.Company
		stored = r.stored(k)
	})
	if err == nil && stored == nil {
		err = punch.Errorf(punch.NotFound, "this employee has no punch with this id")
	}
	return stored, err
}

// List returns an employee's punches in the order of (punched_at, id). It returns NotHome when the company's home is in
// another region.
func (db *DB) List(ctx context.Context, home string, q punch.Query) ([]punch.Receipt, error) {
	args := []any{q.Company, daysOf(q), q.Employee, q.From, q.To, q.After.PunchedAt, [16]byte(q.After.ID), q.Limit}
	var receipts []punch.Receipt
	err := db.readAt(ctx, home, listSQL, args, func() { receipts = receipts[:0] }, func(r *scannedPunch, k punch.Key) {
		k.Company = q.Company
		receipts = append(receipts, r.stored(k).Receipt)
	})
	return receipts, err
}

// maxSources limits the repetitions of a read whose fence names another old home. Each repetition needs a move in
// between.
const maxSources = 3

// readAt runs a statement that reads punches at a home. While rows are carried there, it also reads the old home. reset
// is called before each attempt, and take for each row of the attempt.
func (db *DB) readAt(ctx context.Context, home, sql string, args []any, reset func(), take func(*scannedPunch, punch.Key)) error {
	from := home
	for range maxSources {
		fence, err := db.readOnce(ctx, home, sql, append([]any{home, from}, args...), reset, take)
		switch {
		case classify(err) == causeNoRegion:
			return notHome(0)
		case err != nil:
			return unreadable(err)
		case !fence.here:
			return notHome(0)
		case fence.from == "" || fence.from == from:
			return nil
		}
		from = fence.from
	}
	return punch.Retryable(punch.Unavailable, time.Second, "the company is moving to another region; try again", nil)
}

// fenced is the fence as a read saw it.
type fenced struct {
	here bool
	from string // region that still has rows of the company; empty when none
}

func (db *DB) readOnce(
	ctx context.Context, home, sql string, args []any, reset func(), take func(*scannedPunch, punch.Key),
) (fence fenced, err error) {
	err = db.readPunches(ctx, home, func(ctx context.Context, pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		var (
			from, employee *string
			id             *[16]byte
			rec            scannedPunch
		)
		fence = fenced{}
		reset()
		_, err = pgx.ForEachRow(rows, append([]any{&from, &employee, &id}, rec.targets()...), func() error {
			fence.here = true
			if from != nil {
				fence.from = *from
			}
			if rec.Kind != nil {
				take(&rec, punch.Key{Employee: *employee, ID: *id})
			}
			return nil
		})
		return err
	})
	return fence, err
}

// daysOf lists the id days that can hold punches of the query's period.
func daysOf(q punch.Query) []time.Time {
	var days []time.Time
	last := q.To.Add(punch.MaxSkewToID)
	for day := q.From.Add(-punch.MaxSkewToID).UTC().Truncate(24 * time.Hour); !day.After(last); day = day.Add(24 * time.Hour) {
		days = append(days, day)
	}
	return days
}

func unreadable(err error) error {
	if refused, ok := errors.AsType[*punch.Error](err); ok {
		return refused
	}
	return punch.Retryable(punch.Unavailable, time.Second, "the database did not answer; try again", err)
}
