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

// scanned takes one stored punch from a result. Its fields are pointers where
// an outer join may leave them out.
type scanned struct {
	Kind                              *string
	PunchedAt, ReceivedAt, RecordedAt *time.Time
	Zone, EntryRegion, TraceID        *string
	UTCOffset                         *int32
	Late, Review                      *bool
	Fingerprint                       []byte
}

// targets are the columns kind … fingerprint in the order of the statements.
func (s *scanned) targets() []any {
	return []any{
		&s.Kind, &s.PunchedAt, &s.ReceivedAt, &s.RecordedAt, &s.Zone, &s.UTCOffset,
		&s.EntryRegion, &s.Late, &s.Review, &s.TraceID, &s.Fingerprint,
	}
}

func (s *scanned) stored(home string, key punch.Key) *punch.Stored {
	stored := &punch.Stored{Receipt: punch.Receipt{
		Company: key.Company, Employee: key.Employee, ID: key.ID, Kind: punch.Kind(*s.Kind),
		PunchedAt: s.PunchedAt.UTC(), ReceivedAt: s.ReceivedAt.UTC(), RecordedAt: s.RecordedAt.UTC(),
		Zone: *s.Zone, UTCOffset: *s.UTCOffset, HomeRegion: home, EntryRegion: *s.EntryRegion,
		Late: *s.Late, Review: *s.Review,
	}}
	if s.TraceID != nil {
		stored.TraceID = *s.TraceID
	}
	copy(stored.Fingerprint[:], s.Fingerprint)
	return stored
}

// Find returns what is stored under the key in the given home region, or a
// NotFound *punch.Error.
func (db *DB) Find(ctx context.Context, home string, key punch.Key) (*punch.Stored, error) {
	var (
		rec      scanned
		employee string
		id       [16]byte
	)
	err := db.readPunches(ctx, home, func(ctx context.Context, pool *pgxpool.Pool) error {
		return pool.QueryRow(ctx, findSQL, home, key.Company, key.ID.Day(), key.Employee, [16]byte(key.ID)).
			Scan(append([]any{&employee, &id}, rec.targets()...)...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, punch.Errorf(punch.NotFound, "no punch of this employee has this id")
	}
	if err != nil {
		return nil, unreadable(err)
	}
	return rec.stored(home, key), nil
}

// List returns an employee's punches of the given home region in the order of
// (punched_at, id).
func (db *DB) List(ctx context.Context, home string, q punch.Query) ([]punch.Receipt, error) {
	var receipts []punch.Receipt
	err := db.readPunches(ctx, home, func(ctx context.Context, pool *pgxpool.Pool) error {
		rows, err := pool.Query(ctx, listSQL, home, q.Company, daysOf(q), q.Employee, q.From, q.To,
			q.After.PunchedAt, [16]byte(q.After.ID), q.Limit)
		if err != nil {
			return err
		}
		var (
			rec scanned
			id  [16]byte
			key = punch.Key{Company: q.Company}
		)
		receipts = receipts[:0]
		_, err = pgx.ForEachRow(rows, append([]any{&key.Employee, &id}, rec.targets()...), func() error {
			key.ID = id
			receipts = append(receipts, rec.stored(home, key).Receipt)
			return nil
		})
		return err
	})
	if err != nil {
		return nil, unreadable(err)
	}
	return receipts, nil
}

// daysOf lists the id days that can hold a punch of the queried time.
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
	return punch.Wait(punch.Unavailable, time.Second, "the database did not answer; ask again", err)
}
