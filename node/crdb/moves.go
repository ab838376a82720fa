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

// The statements of a move. They are the store of node/rehome, whose DESIGN.md proves them together with the writer's.

const moveSQL = `SELECT company_id, home_region::text, coalesce(moving_from::text, ''), epoch FROM companies `

// MovesOf returns the companies with their home or with rows in the region, in the order of their ids. It refuses an
// unknown region, because an empty answer would hide a misspelt name.
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

// Where returns the home of a company and its move, or an UnknownCompany *punch.Error. It takes the lock that moves
// take. On CockroachDB a change of a global table lies some hundred milliseconds in the future. A locking transaction
// has seen that change, and a plain read has not.
func (db *DB) Where(ctx context.Context, company string) (m region.Move, err error) {
	err = db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		m, err = lockCompany(ctx, tx, company)
		return err
	})
	return m, err
}

// Flip makes a region the home of a company and returns the company's move. The returned move carries nothing when the
// region was the home already. While rows are carried the only other target is back. Flip refuses every other target
// with Conflict.
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
			return punch.Errorf(punch.Conflict, "company %s is still moving from %s to %s: finish that first by moving it to %s, or "+
				"reverse it by moving it to %s",
				company, m.From, m.Home, m.Home, m.From)
		}
		m.Home, m.From, m.Epoch = to, m.Home, m.Epoch+1
		return db.flip(ctx, tx, m)
	})
	return m, explainRegion(err, to)
}

// explainRegion names the region when the database refused its label.
func explainRegion(err error, name region.Name) error {
	if classify(err) == causeNoRegion {
		return fmt.Errorf("the database has no region %s, or the region is being added or removed", name)
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

// lockFence keeps all punches from passing the fence until the commit. On CockroachDB the change of the fence's row
// does so by itself.
// On PostgreSQL a row lock does not queue behind shared locks, and punches of a busy company may share the row without
// end. A table lock queues. It must follow lockCompany and precede every other statement on homes.
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
		{`UPDATE companies SET home_region = $1::text::crdb_internal_region, epoch = $3,
			moving_from = $4::text::crdb_internal_region, version = version + 1
			WHERE company_id = $2`,
			[]any{string(m.Home), m.Company, m.Epoch, string(m.From)}},
	} {
		if err := execOne(ctx, tx, step.sql, step.args...); err != nil {
			return fmt.Errorf("company %s from %s to %s: %w", m.Company, m.From, m.Home, err)
		}
	}
	return nil
}

// errFence means that the company's row in homes contradicts its row in companies. Then nothing is changed.
var errFence = punch.Errorf(punch.Conflict, "the company's row in homes contradicts its row in companies: nothing was changed")

// execOne runs a statement that must change exactly one row.
func execOne(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() != 1 {
		err = errFence
	}
	return err
}

// Carry takes up to limit rows of the company, the newest first, to its home, and returns their number. At 0 this call
// found no row, but another mover may have locked some.
// If another row has the key at the home, Carry changes nothing and returns the first few keys. NotHome means that the
// move has ended or was reversed.
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

// carry carries rows in tx. It returns errDiffers and the keys when the two homes have unlike rows for one key.
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
			return 0, nil, err // such as a conflict: the rows were not compared, so the transaction runs again
		}
		if len(differing) > 0 {
			return 0, differing, errDiffers
		}
	}
	tag, err = tx.Exec(ctx, deleteSQL, string(m.From), m.Company, last.day, last.Employee, [16]byte(last.ID))
	if err == nil && tag.RowsAffected() != int64(len(keys)) {
		err = punch.Errorf(punch.Conflict, "company %s: %d rows were read in %s, but %d would be deleted", m.Company, len(keys), m.From,
			tag.RowsAffected())
	}
	return len(keys), nil, err
}

// errDiffers rolls a transaction back. Carry does not return it.
var errDiffers = punch.Errorf(punch.Conflict, "the two homes have unlike rows for one key")

// checkMove checks that the move is still under way. On PostgreSQL FOR SHARE keeps it so until the commit; punches
// share that lock.
func checkMove(ctx context.Context, tx pgx.Tx, m region.Move) error {
	var one int
	err := tx.QueryRow(ctx, `SELECT 1 FROM homes WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2
		AND epoch = $3 AND moving_from = $4::text::crdb_internal_region FOR SHARE`, string(m.Home), m.Company, m.Epoch, string(m.From)).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		err = punch.Errorf(punch.NotHome, "the move of company %s to %s under epoch %d has ended or was reversed", m.Company, m.Home, m.Epoch)
	}
	return err
}

type dayKey struct {
	punch.Key
	day time.Time
}

// lockNewest locks the newest rows and returns their keys, newest first. Without the lock two movers would make each
// other fail.
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

// Finish ends a move when no row is left at the old home, and reports whether it did. It returns false while rows are
// left, which another mover may have locked. NotHome means that the move has ended or was reversed.
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
