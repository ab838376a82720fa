package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
)

// event is a row of punches as the queue carries it.
type event struct {
	Region      string
	Company     string
	Employee    string
	ID          punch.ID
	Kind        punch.Kind
	DeviceAt    *time.Time
	PunchedAt   time.Time
	ReceivedAt  time.Time
	Zone        string
	UTCOffset   int32
	EntryRegion string
	Source      *string
	Note        *string
	Late        bool
	NeedsReview bool
	Fingerprint []byte
}

func newEvent(p *punch.Punch) *event {
	fingerprint := p.Fingerprint()
	e := &event{
		Region: p.HomeRegion, Company: p.Company, Employee: p.Employee, ID: p.ID, Kind: p.Kind,
		PunchedAt: p.PunchedAt(), ReceivedAt: p.ReceivedAt, Zone: p.Zone, UTCOffset: p.UTCOffset, EntryRegion: p.EntryRegion,
		Late: p.Late, NeedsReview: p.NeedsReview, Fingerprint: fingerprint[:],
	}
	if !p.At.IsZero() {
		e.DeviceAt = &p.At
	}
	if p.Source != "" {
		e.Source = &p.Source
	}
	if p.Note != "" {
		e.Note = &p.Note
	}
	return e
}

// insertSQL has the columns of a node's statement, and the same protection against doubled rows. It has no fence: a
// company that moves to another home meanwhile would get rows in two regions.
const insertSQL = `INSERT INTO punches (
    crdb_region, company_id, day, employee_id, punch_id, kind, device_at, punched_at, received_at, recorded_at, zone,
    utc_offset, entry_region, source, note, late, review, fingerprint
)
SELECT u.region::crdb_internal_region, u.company_id, u.day, u.employee_id, u.punch_id, u.kind, u.device_at, u.punched_at,
    u.received_at, statement_timestamp(), u.zone, u.utc_offset, u.entry_region, u.source, u.note, u.late, u.review,
    u.fingerprint
FROM unnest($1::text[], $2::text[], $3::date[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[], $8::timestamptz[],
    $9::timestamptz[], $10::text[], $11::int4[], $12::text[], $13::text[], $14::text[], $15::bool[], $16::bool[],
    $17::bytea[]) AS u (region, company_id, day, employee_id, punch_id, kind, device_at, punched_at, received_at, zone,
    utc_offset, entry_region, source, note, late, review, fingerprint)
ON CONFLICT (crdb_region, company_id, day, employee_id, punch_id) DO NOTHING`

// insert commits the events in one statement.
func insert(ctx context.Context, pool *pgxpool.Pool, events []event) error {
	n := len(events)
	region, company, employee, kind := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	zones, entry := make([]string, n), make([]string, n)
	source, note := make([]*string, n), make([]*string, n)
	day, punchedAt, receivedAt, deviceAt := make([]time.Time, n), make([]time.Time, n), make([]time.Time, n), make([]*time.Time, n)
	id, offset, fingerprint := make([][16]byte, n), make([]int32, n), make([][]byte, n)
	late, review := make([]bool, n), make([]bool, n)
	for i := range events {
		e := &events[i]
		region[i], company[i], employee[i], kind[i] = e.Region, e.Company, e.Employee, string(e.Kind)
		zones[i], entry[i], source[i], note[i] = e.Zone, e.EntryRegion, e.Source, e.Note
		day[i], punchedAt[i], receivedAt[i], deviceAt[i] = e.ID.Day(), e.PunchedAt, e.ReceivedAt, e.DeviceAt
		id[i], offset[i], fingerprint[i], late[i], review[i] = e.ID, e.UTCOffset, e.Fingerprint, e.Late, e.NeedsReview
	}
	_, err := pool.Exec(ctx, insertSQL, region, company, day, employee, id, kind, deviceAt, punchedAt, receivedAt, zones,
		offset, entry, source, note, late, review, fingerprint)
	return err
}

// openPool opens the connections for writes. All of them are made at once, as a node does.
func openPool(ctx context.Context, cfg *config) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	c.MaxConns, c.MinConns = int32(cfg.Connections), int32(cfg.Connections)
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// insertRows inserts batches on every connection and prints how many rows came in.
func insertRows(ctx context.Context, cfg *config, out io.Writer) error {
	pool, err := openPool(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	companies, err := readCompanies(ctx, pool)
	if err != nil {
		return err
	}
	home, known := companies[cfg.Company]
	if !known {
		return fmt.Errorf("company: there is no company %s", cfg.Company)
	}
	var (
		loops sync.WaitGroup
		total atomic.Int64
		mu    sync.Mutex // guards first
		first error
	)
	began := time.Now()
	for worker := range cfg.Connections {
		loops.Go(func() {
			for time.Since(began) < cfg.Run {
				if err := insert(ctx, pool, newBatch(cfg, &home, worker)); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
					return
				}
				total.Add(int64(cfg.Batch))
			}
		})
	}
	loops.Wait()
	if first != nil {
		return first
	}
	return json.NewEncoder(out).Encode(struct {
		Rows    int64   `json:"rows"`
		Seconds float64 `json:"seconds"`
	}{total.Load(), time.Since(began).Seconds()})
}

// newBatch makes punches like the load generator's.
func newBatch(cfg *config, c *company, worker int) []event {
	now := punch.Microseconds(time.Now())
	_, offset := now.In(c.location).Zone()
	batch := make([]event, cfg.Batch)
	for i := range batch {
		p := punch.Stamped(punch.Request{
			Company: cfg.Company, Employee: fmt.Sprintf("e%06d", worker*1000+i), ID: punch.NewID(), Kind: punch.In,
		}, now, cfg.Region, "")
		p.Route = punch.Route{HomeRegion: c.home, Epoch: c.epoch, Zone: c.zone, UTCOffset: int32(offset)}
		batch[i] = *newEvent(&p)
	}
	return batch
}
