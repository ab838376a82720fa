package crdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

var (
	carrySQL     = statement("carry")
	differingSQL = statement("differing")
)

const (
	newestSQL = `SELECT day, employee_id, punch_id FROM punches
		WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2
		ORDER BY day DESC, employee_id DESC, punch_id DESC LIMIT $3 FOR UPDATE`
	deleteSQL = `DELETE FROM punches WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2
		AND (day, employee_id, punch_id) >= ($3::date, $4::text, $5::uuid)`
	leftSQL = `SELECT EXISTS (SELECT 1 FROM punches WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2)`
)

// The statements of a move: what node/rehome needs of its store. Its DESIGN.md
// says why they are right together with the writer's.

const moveSQL = `SELECT company_id, home_region::text, coalesce(moving_from::text, ''), epoch FROM companies `

// MovesOf returns the companies that have their home in the region or rows
// there, in the order of their ids. A region that the database does not have is
// refused: it was meant to be another one.
func (db *DB) MovesOf(ctx context.Context, name region.Name) (list []region.Move, err error) {
	for after := ""; ; {
		var page []region.Move
		err := db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
			rows, err := pool.Query(ctx, moveSQL+`WHERE company_id > $2
				AND (home_region = $1::text::crdb_internal_region OR moving_from = $1::text::crdb_internal_region)
				ORDER BY company_id LIMIT $3`, string(name), after, companiesPage)
			if err != nil {
				return err
			}
			page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[region.Move])
			return err
		})
		err = explainRegion(err, name)
		list = append(list, page...)
		if err != nil || len(page) < companiesPage {
			return list, err
		}
		after = page[len(page)-1].Company
	}
}

// Where returns where a company is, or an UnknownCompany *punch.Error. It takes
// the lock that moves take: on CockroachDB a change of a global table is of some
// hundred milliseconds ahead, where transactions with locks have seen it and a
// plain read has not.
func (db *DB) Where(ctx context.Context, company string) (m region.Move, err error) {
	err = db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		m, err = lockCompany(ctx, tx, company)
		return err
	})
	return m, err
}

// Flip makes a region the home of a company and returns what holds now: a move
// that has to be carried, or that there is nothing to do. While rows are being
// carried the only other way is back; anything else is refused as Conflict.
func (db *DB) Flip(ctx context.Context, company string, to region.Name) (m region.Move, err error) {
	regions, err := db.Regions(ctx)
	if err != nil {
		return m, err
	}
	if !slices.Contains(regions, string(to)) {
		return m, punch.InvalidField("home_region", "must be one of the database's regions %v, is %q", regions, to)
	}
	err = db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if m, err = lockCompany(ctx, tx, company); err != nil || m.Home == to {
			return err
		}
		if m.Carrying() && m.From != to {
			return punch.Errorf(punch.Conflict, "company %s is still being carried from %s to %s: end that first, by moving it to %s, or turn it round, by moving it to %s",
				company, m.From, m.Home, m.Home, m.From)
		}
		m.Home, m.From, m.Epoch = to, m.Home, m.Epoch+1
		return db.flip(ctx, tx, m)
	})
	return m, explainRegion(err, to)
}

// explainRegion names the region where the database refused its label.
func explainRegion(err error, name region.Name) error {
	if classify(err) == causeNoRegion {
		return fmt.Errorf("the database has no region %s, or is adding or removing it", name)
	}
	return err
}

// lockCompany locks the company's row, so that moves of one company take turns.
func lockCompany(ctx context.Context, tx pgx.Tx, company string) (region.Move, error) {
	rows, err := tx.Query(ctx, moveSQL+`WHERE company_id = $1 FOR UPDATE`, company)
	if err != nil {
		return region.Move{}, err
	}
	m, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[region.Move])
	if errors.Is(err, pgx.ErrNoRows) {
		err = punch.Errorf(punch.UnknownCompany, "there is no company %s", company)
	}
	return m, err
}

// lockFence lets no punch pass the fence until the commit. On CockroachDB
// changing its row is enough. On PostgreSQL a lock on a row that others share is
// not queued for, and punches of a busy company would share it for ever; table
// locks are. It comes after lockCompany and before anything else on homes.
func (db *DB) lockFence(ctx context.Context, tx pgx.Tx) error {
	if db.Engine != PostgreSQL {
		return nil
	}
	_, err := tx.Exec(ctx, `LOCK TABLE homes IN EXCLUSIVE MODE`)
	return err
}

func (db *DB) flip(ctx context.Context, tx pgx.Tx, m region.Move) error {
	if err := db.lockFence(ctx, tx); err != nil {
		return err
	}
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{`DELETE FROM homes WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2 AND epoch = $3`,
			[]any{string(m.From), m.Company, m.Epoch - 1}},
		{`INSERT INTO homes (crdb_region, company_id, epoch, moving_from)
			VALUES ($1::text::crdb_internal_region, $2, $3, $4::text::crdb_internal_region)`,
			[]any{string(m.Home), m.Company, m.Epoch, string(m.From)}},
		{`UPDATE companies SET home_region = $1::text::crdb_internal_region, epoch = $3, moving_from = $4::text::crdb_internal_region, version = version + 1
			WHERE company_id = $2`,
			[]any{string(m.Home), m.Company, m.Epoch, string(m.From)}},
	} {
		if err := execOne(ctx, tx, step.sql, step.args...); err != nil {
			return fmt.Errorf("company %s from %s to %s: %w", m.Company, m.From, m.Home, err)
		}
	}
	return nil
}

// errFence is for a fence that contradicts the company: nothing is changed then.
var errFence = punch.Errorf(punch.Conflict, "the company's row in homes is not what its row in companies says")

// execOne runs a statement that must concern exactly one row.
func execOne(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() != 1 {
		err = errFence
	}
	return err
}

// Carry takes up to limit rows of the company, the newest, from where they are
// to the home, and returns how many. None are left to this call when it returns
// 0; another mover may have some in hand. A row whose key is taken at the home
// by another row stops it: none are carried, and the first few are returned.
// NotHome means that the move is over or was turned round.
func (db *DB) Carry(ctx context.Context, m region.Move, limit int) (carried int, differing []punch.Key, err error) {
	err = db.transactionOn(ctx, (*gateway).movesPool, func(ctx context.Context, tx pgx.Tx) error {
		carried, differing, err = carry(ctx, tx, m, limit)
		return err
	})
	if len(differing) > 0 {
		return 0, differing, nil
	}
	if err != nil {
		carried = 0
	}
	return carried, nil, err
}

// carry carries rows in tx. It returns errDiffers together with the keys of rows that are at both homes and not the same.
func carry(ctx context.Context, tx pgx.Tx, m region.Move, limit int) (carried int, differing []punch.Key, err error) {
	if err := checkMove(ctx, tx, m); err != nil {
		return 0, nil, err
	}
	keys, err := lockNewest(ctx, tx, m, limit)
	if err != nil || len(keys) == 0 {
		return 0, nil, err
	}
	last := keys[len(keys)-1]
	span := []any{string(m.From), string(m.Home), m.Company, last.day, last.Employee, [16]byte(last.ID)}
	tag, err := tx.Exec(ctx, carrySQL, span...)
	if err != nil {
		return 0, nil, err
	}
	if tag.RowsAffected() != int64(len(keys)) {
		if differing, err = findMismatches(ctx, tx, m.Company, span); err != nil {
			return 0, nil, err // such as a conflict: the rows were not compared, and the transaction is run again
		}
		if len(differing) > 0 {
			return 0, differing, errDiffers
		}
	}
	tag, err = tx.Exec(ctx, deleteSQL, string(m.From), m.Company, last.day, last.Employee, [16]byte(last.ID))
	if err == nil && tag.RowsAffected() != int64(len(keys)) {
		err = punch.Errorf(punch.Conflict, "company %s: %d rows were read in %s and %d would be deleted", m.Company, len(keys), m.From, tag.RowsAffected())
	}
	return len(keys), nil, err
}

// errDiffers rolls a transaction back; it is never returned.
var errDiffers = punch.Errorf(punch.Conflict, "a row is at both homes and not the same")

// checkMove checks that the move is still the one that is under way. FOR SHARE keeps
// it so until the commit on PostgreSQL, beside punches, which share it too.
func checkMove(ctx context.Context, tx pgx.Tx, m region.Move) error {
	var one int
	err := tx.QueryRow(ctx, `SELECT 1 FROM homes WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2
		AND epoch = $3 AND moving_from = $4::text::crdb_internal_region FOR SHARE`, string(m.Home), m.Company, m.Epoch, string(m.From)).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		err = punch.Errorf(punch.NotHome, "the move of company %s to %s under epoch %d is over or was turned round", m.Company, m.Home, m.Epoch)
	}
	return err
}

type dayKey struct {
	punch.Key
	day time.Time
}

// lockNewest locks the newest rows where they are, so that two movers take turns
// instead of failing each other, and returns their keys, newest first.
func lockNewest(ctx context.Context, tx pgx.Tx, m region.Move, limit int) ([]dayKey, error) {
	rows, err := tx.Query(ctx, newestSQL, string(m.From), m.Company, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k dayKey, err error) {
		k.Company = m.Company
		return k, row.Scan(&k.day, &k.Employee, (*[16]byte)(&k.ID))
	})
}

func findMismatches(ctx context.Context, tx pgx.Tx, company string, span []any) ([]punch.Key, error) {
	rows, err := tx.Query(ctx, differingSQL, span...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k punch.Key, err error) {
		k.Company = company
		return k, row.Scan(&k.Employee, (*[16]byte)(&k.ID))
	})
}

// Finish ends a move from which nothing is left to carry, and reports whether
// it did: false while there are rows, which another mover may have in hand.
// NotHome means that it is over already or was turned round.
func (db *DB) Finish(ctx context.Context, m region.Move) (done bool, err error) {
	err = db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockCompany(ctx, tx, m.Company); err != nil {
			return err
		}
		if err := db.lockFence(ctx, tx); err != nil {
			return err
		}
		if err := checkMove(ctx, tx, m); err != nil {
			return err
		}
		var left bool
		if err := tx.QueryRow(ctx, leftSQL, string(m.From), m.Company).Scan(&left); err != nil {
			return err
		}
		if done = !left; left {
			return nil
		}
		if err := execOne(ctx, tx, `UPDATE homes SET moving_from = NULL WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2`,
			string(m.Home), m.Company); err != nil {
			return err
		}
		return execOne(ctx, tx, `UPDATE companies SET moving_from = NULL, version = version + 1 WHERE company_id = $1`, m.Company)
	})
	return done && err == nil, err
}
