package crdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
	"github.com/punchclock/punchclock/region"
)

// Company is a company as an operator manages it.
type Company struct {
	ID         string
	Name       string
	HomeRegion string
	MovingFrom string // region that still has rows of the company; empty when the company is not moving
	TimeZone   string // IANA name
	Epoch      int64
	Version    int64
	CreatedAt  time.Time
	Switches
}

// Validate checks the values that an operator gives. regions are the regions of the database.
// The error is an Invalid *punch.Error that names the field.
func (c *Company) Validate(regions []string) error {
	if !punch.ValidCompany(c.ID) {
		return punch.InvalidField("company", "%s, is %q", punch.NameRule, c.ID)
	}
	if c.Name == "" || len(c.Name) > 200 { // longer than any registered name
		return punch.InvalidField("name", "must be 1 to 200 bytes, has %d", len(c.Name))
	}
	if !utf8.ValidString(c.Name) || strings.ContainsRune(c.Name, 0) { // a text column refuses both
		return punch.InvalidField("name", "must be valid UTF-8 without NUL, is %q", c.Name)
	}
	known := false
	for _, r := range regions {
		known = known || r == c.HomeRegion
	}
	if !known {
		return punch.InvalidField("home_region", "must be one of the database's regions %v, is %q", regions, c.HomeRegion)
	}
	return validZone(c.TimeZone)
}

// Home reads a company's home for the directory. It returns region.ErrUnknownCompany when the database has no such
// company.
func (db *DB) Home(ctx context.Context, company string) (home region.Home, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		var row homeRow
		err := pool.QueryRow(ctx, homeSQL, company).Scan(row.fields()...)
		home = row.home(db.location(ctx, row.zone))
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return region.Home{}, region.ErrUnknownCompany
	}
	return home, err
}

// homeColumns are the columns of a region.Home, in the order of homeRow.fields.
const homeColumns = `home_region::text, epoch, time_zone, version, suspended, suspended_until, coalesce(rate_limit, 0)`

const homeSQL = `SELECT ` + homeColumns + ` FROM companies WHERE company_id = $1`

// homeRow is a row with homeColumns.
type homeRow struct {
	region, zone string
	stored       region.Home // without Region, Zone and SuspendedUntil
	until        *time.Time
}

func (r *homeRow) fields() []any {
	h := &r.stored
	return []any{&r.region, &h.Epoch, &r.zone, &h.Version, &h.Suspended, &r.until, &h.RateLimit}
}

func (r *homeRow) home(zone *time.Location) region.Home {
	h := r.stored
	h.Region, h.Zone = region.Name(r.region), zone
	if r.until != nil {
		h.SuspendedUntil = r.until.UTC()
	}
	return h
}

// location loads a zone that was checked when it was stored. If this build does not know the zone, the company's
// punches get the offset of UTC, and the log says so once. Refusing the punches would be worse.
func (db *DB) location(ctx context.Context, name string) *time.Location {
	loc, err := zone.Load(name)
	if err == nil {
		return loc
	}
	if _, logged := db.unknownZones.LoadOrStore(name, true); !logged {
		db.log.ErrorContext(ctx, "punches get the offset of UTC, because this build does not know their company's time zone; "+
			"correct it with `punchclock company set-zone`",
			"zone", name, "error", err)
	}
	return time.UTC
}

// companiesPage is the number of companies per page. A page must be read within one attempt, also
// through a slow gateway.
const companiesPage = 5_000

// Homes passes up to limit companies to put, to preload a directory. It reads pages in the order of the ids and repeats
// each page until ctx is done. So a failed statement costs a single page. A company may be passed twice when its page
// failed half way.
func (db *DB) Homes(ctx context.Context, limit int, put func(company string, home region.Home)) error {
	return db.homes(ctx, limit, companiesPage, put)
}

func (db *DB) homes(ctx context.Context, limit, page int, put func(company string, home region.Home)) error {
	zones := make(map[string]*time.Location)
	for after := ""; limit > 0; {
		size := min(limit, page)
		read, last := 0, after
		err := db.retryUntilAnswer(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
			read, last = 0, after
			rows, err := pool.Query(ctx, `SELECT company_id, `+homeColumns+` FROM companies
				WHERE company_id > $1 ORDER BY company_id LIMIT $2`, after, size)
			if err != nil {
				return err
			}
			var row homeRow
			_, err = pgx.ForEachRow(rows, append([]any{&last}, row.fields()...), func() error {
				if zones[row.zone] == nil {
					zones[row.zone] = db.location(ctx, row.zone)
				}
				put(last, row.home(zones[row.zone]))
				read++
				return nil
			})
			return err
		})
		if err != nil || read < size {
			return err
		}
		after, limit = last, limit-read
	}
	return nil
}

// ListCompanies returns up to limit companies with ids greater than after, in
// the order of their ids.
func (db *DB) ListCompanies(ctx context.Context, after string, limit int) (list []Company, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		list, err = companies(ctx, pool, `WHERE company_id > $1 ORDER BY company_id LIMIT $2`, after, limit)
		return err
	})
	return list, err
}

// Company returns one company, or an UnknownCompany *punch.Error.
func (db *DB) Company(ctx context.Context, id string) (c Company, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		list, err := companies(ctx, pool, `WHERE company_id = $1`, id)
		if err == nil && len(list) == 0 {
			return pgx.ErrNoRows
		}
		if err == nil {
			c = list[0]
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return c, punch.Errorf(punch.UnknownCompany, "there is no company %s", id)
	}
	return c, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

const companySQL = `SELECT company_id, name, home_region::text, coalesce(moving_from::text, ''),
	time_zone, epoch, version, created_at,
	suspended, suspended_until, suspension_reason, coalesce(rate_limit, 0), switched_at, switched_by FROM companies `

func companies(ctx context.Context, q querier, where string, args ...any) ([]Company, error) {
	rows, err := q.Query(ctx, companySQL+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Company])
}

// CreateCompanies creates all companies of the list that do not exist, or none of them. It returns one outcome for each
// company.
// The outcome is nil when the company was created or exists with the same values. It is Conflict when a company with
// other values has the id. The caller must validate the companies and pass each id once.
func (db *DB) CreateCompanies(ctx context.Context, list []Company) ([]error, error) {
	outcomes := make([]error, len(list))
	err := db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error { return createCompanies(ctx, tx, list, outcomes) })
	if err != nil {
		return nil, fmt.Errorf("create companies: %w", err)
	}
	return outcomes, nil
}

func createCompanies(ctx context.Context, tx pgx.Tx, list []Company, outcomes []error) error {
	n := len(list)
	ids, names, regions, zones := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, c := range list {
		ids[i], names[i], regions[i], zones[i] = c.ID, c.Name, c.HomeRegion, c.TimeZone
	}
	_, err := tx.Exec(ctx, `
		WITH created AS (
			INSERT INTO companies (company_id, name, home_region, time_zone)
			SELECT u.id, u.name, u.region::crdb_internal_region, u.zone
			FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u (id, name, region, zone)
			ON CONFLICT (company_id) DO NOTHING
			RETURNING company_id, home_region, epoch
		)
		INSERT INTO homes (crdb_region, company_id, epoch)
		SELECT home_region, company_id, epoch FROM created`, ids, names, regions, zones)
	if err != nil {
		return err
	}
	stored, err := companies(ctx, tx, `WHERE company_id = ANY ($1::text[])`, ids)
	if err != nil {
		return err
	}
	byID := make(map[string]Company, len(stored))
	for _, c := range stored {
		byID[c.ID] = c
	}
	for i, c := range list {
		is, want := byID[c.ID], c
		outcomes[i] = nil
		if is.Name != want.Name || is.HomeRegion != want.HomeRegion || is.TimeZone != want.TimeZone {
			outcomes[i] = punch.Errorf(punch.Conflict, "company %s exists with other values: name %q, home_region %s, time_zone %s",
				c.ID, is.Name, is.HomeRegion, is.TimeZone)
		}
	}
	return nil
}
