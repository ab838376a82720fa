package audit

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
)

// Run reads a ledger and compares it with the database at the given URL, in one read-only snapshot. Run it after the
// last request has its answer: a request under way may still be committed.
func Run(ctx context.Context, ledger io.Reader, databaseURL string) (Report, error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return Report{}, fmt.Errorf("audit: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // a read-only session has nothing to lose
	var report Report
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		report, err = audit(ctx, ledger, database{tx})
		return err
	})
	return report, err
}

// database reads the product's tables with SQL of its own.
type database struct{ tx pgx.Tx }

const selectHomes = `SELECT crdb_region::text, company_id, epoch, COALESCE(moving_from::text, '')
FROM homes WHERE company_id = ANY ($1)`

func (d database) homes(ctx context.Context, companies []string, each func(Home) error) error {
	rows, err := d.tx.Query(ctx, selectHomes, companies)
	if err != nil {
		return err
	}
	var h Home
	_, err = pgx.ForEachRow(rows, []any{&h.Region, &h.Company, &h.Epoch, &h.MovingFrom}, func() error { return each(h) })
	return err
}

// The condition does not name the region, so that the audit sees rows in a wrong region.
const selectRows = `SELECT crdb_region::text, company_id, day::text, employee_id, punch_id::text, kind,
	device_at, punched_at, received_at, recorded_at, zone, utc_offset, entry_region,
	source, note, late, review, trace_id
FROM punches WHERE company_id = ANY ($1)`

func (d database) rows(ctx context.Context, companies []string, each func(Row) error) error {
	rows, err := d.tx.Query(ctx, selectRows, companies)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var r Row // a new Row each time, because the row's pointers outlive the scan
		if err := rows.Scan(&r.Region, &r.Company, &r.Day, &r.Employee, &r.ID, &r.Kind,
			&r.DeviceAt, &r.PunchedAt, &r.ReceivedAt, &r.RecordedAt, &r.Zone, &r.UTCOffset, &r.EntryRegion,
			&r.Source, &r.Note, &r.Late, &r.Review, &r.TraceID); err != nil {
			return err
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return rows.Err()
}
