package crdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
	"github.com/punchclock/punchclock/region"
)

func validZone(name string) error {
	if _, err := zone.Load(name); err != nil {
		return punch.InvalidField("time_zone", "%s", err)
	}
	return nil
}

// SetZone corrects the time zone of a company and returns the changed company. Stored punches keep their zone and
// offset.
//
// The epoch grows in the company's row and in the fence. So a node with the old zone in its directory cannot store a
// punch: the fence answers NotHome, and the node reads the company again. Nothing changes when the company has this
// zone already. SetZone refuses a company that is moving with Conflict, because the move depends on the epoch.
func (db *DB) SetZone(ctx context.Context, company, name string) (c Company, err error) {
	if err := validZone(name); err != nil {
		return c, err
	}
	err = db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		m, err := lockCompany(ctx, tx, company)
		if err != nil {
			return err
		}
		if c, err = oneCompany(ctx, tx, company); err != nil || c.TimeZone == name {
			return err
		}
		if m.Carrying() {
			return punch.Errorf(punch.Conflict, "company %s is still moving from %s to %s; finish the move, then set the zone", company,
				m.From, m.Home)
		}
		if err := db.raiseFence(ctx, tx, m); err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE companies SET time_zone = $2, epoch = epoch + 1, version = version + 1 WHERE company_id = $1`,
			company, name); err != nil {
			return err
		}
		c, err = oneCompany(ctx, tx, company)
		return err
	})
	if err != nil {
		return c, fmt.Errorf("set the time zone of company %s: %w", company, err)
	}
	return c, nil
}

// raiseFence raises the epoch in the fence of a company that is not moving. The caller has locked the company and raises
// the epoch in its row too.
func (db *DB) raiseFence(ctx context.Context, tx pgx.Tx, m region.Move) error {
	if err := db.lockFence(ctx, tx); err != nil {
		return err
	}
	return execOne(ctx, tx, `UPDATE homes SET epoch = epoch + 1
		WHERE crdb_region = $1::text::crdb_internal_region AND company_id = $2 AND epoch = $3 AND moving_from IS NULL`,
		string(m.Home), m.Company, m.Epoch)
}

func oneCompany(ctx context.Context, q querier, id string) (Company, error) {
	list, err := companies(ctx, q, `WHERE company_id = $1`, id)
	if err == nil && len(list) == 0 {
		err = punch.Errorf(punch.UnknownCompany, "there is no company %s", id)
	}
	if err != nil {
		return Company{}, err
	}
	return list[0], nil
}
