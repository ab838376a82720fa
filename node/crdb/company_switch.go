package crdb

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/punch"
)

// MaxRateLimit is the highest limit of a company. No node takes more punches a second, so a higher number is a mistake.
const MaxRateLimit = 1_000_000

// maxSwitchText bounds the reason of a suspension and the name of an operator in bytes: one line of a terminal.
const maxSwitchText = 200

// Switches are the operator's switches of a company: a suspension and a limit.
type Switches struct {
	Suspended      bool
	SuspendedUntil *time.Time // nil: until the company is resumed
	Reason         string     // of the suspension
	RateLimit      int        // punches a second that each node takes from the company's devices; 0: no limit
	SwitchedAt     *time.Time // when the suspension or the limit was changed last; nil: never
	SwitchedBy     string     // who changed it, as the command said
}

// SuspendedAt reports whether the company is suspended at that time.
func (s Switches) SuspendedAt(now time.Time) bool {
	return s.Suspended && (s.SuspendedUntil == nil || now.Before(*s.SuspendedUntil))
}

// Suspension says until when a company is suspended, and why.
type Suspension struct {
	Until  time.Time // zero: until the company is resumed
	Reason string
}

// Suspend makes all nodes refuse the company's punches, and returns the changed company. Devices keep the punches, and
// reads go on. A suspended company gets the new end and reason.
func (db *DB) Suspend(ctx context.Context, company string, s Suspension, by string) (Company, error) {
	if !s.Until.IsZero() && !s.Until.After(time.Now()) {
		return Company{}, punch.InvalidField("until", "must be in the future, is %s", s.Until.Format(time.RFC3339))
	}
	if err := validSwitchText("reason", s.Reason); err != nil {
		return Company{}, err
	}
	var until *time.Time
	if !s.Until.IsZero() {
		cut := punch.Microseconds(s.Until)
		until = &cut
	}
	c, err := db.switchCompany(ctx, company, by, func(c *Switches) (changed bool) {
		same := c.Suspended && c.Reason == s.Reason &&
			(c.SuspendedUntil == nil) == (until == nil) && (until == nil || c.SuspendedUntil.Equal(*until))
		c.Suspended, c.SuspendedUntil, c.Reason = true, until, s.Reason
		return !same
	})
	if err != nil {
		return c, fmt.Errorf("suspend company %s: %w", company, err)
	}
	return c, nil
}

// Resume ends the suspension of a company and returns the changed company.
func (db *DB) Resume(ctx context.Context, company, by string) (Company, error) {
	c, err := db.switchCompany(ctx, company, by, func(c *Switches) (changed bool) {
		changed = c.Suspended
		c.Suspended, c.SuspendedUntil, c.Reason = false, nil, ""
		return changed
	})
	if err != nil {
		return c, fmt.Errorf("resume company %s: %w", company, err)
	}
	return c, nil
}

// LimitRate sets how many punches a second each node takes from the company's devices. 0 removes the limit. It returns
// the changed company.
func (db *DB) LimitRate(ctx context.Context, company string, perSecond int, by string) (Company, error) {
	if perSecond < 0 || perSecond > MaxRateLimit {
		return Company{}, punch.InvalidField("rate", "must be 1 to %d punches a second, or none, is %d", MaxRateLimit, perSecond)
	}
	c, err := db.switchCompany(ctx, company, by, func(c *Switches) (changed bool) {
		changed = c.RateLimit != perSecond
		c.RateLimit = perSecond
		return changed
	})
	if err != nil {
		return c, fmt.Errorf("limit company %s: %w", company, err)
	}
	return c, nil
}

func validSwitchText(field, s string) error {
	if len(s) > maxSwitchText || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n\r") {
		return punch.InvalidField(field, "must be one line of at most %d bytes in UTF-8, is %q", maxSwitchText, s)
	}
	return nil
}

// switchCompany changes the switches of a company.
//
// The epoch grows with every change, as for a new time zone. So the next punch through a node that does not know of the
// change misses the fence, and the node reads the company again. While the company is moving the epoch must stay,
// because the move depends on it. Nodes then learn of the change when they refresh their directory, within a minute.
func (db *DB) switchCompany(ctx context.Context, company, by string, change func(*Switches) (changed bool)) (c Company, err error) {
	if err := validSwitchText("by", by); err != nil {
		return c, err
	}
	err = db.transaction(ctx, func(ctx context.Context, tx pgx.Tx) error {
		m, err := lockCompany(ctx, tx, company)
		if err != nil {
			return err
		}
		if c, err = oneCompany(ctx, tx, company); err != nil || !change(&c.Switches) {
			return err
		}
		epoch := m.Epoch
		if !m.Carrying() {
			if err := db.raiseFence(ctx, tx, m); err != nil {
				return err
			}
			epoch++
		}
		if err := execOne(ctx, tx, `UPDATE companies SET suspended = $2, suspended_until = $3, suspension_reason = $4,
			rate_limit = nullif($5::int8, 0), switched_at = now(), switched_by = $6, epoch = $7, version = version + 1
			WHERE company_id = $1`,
			company, c.Suspended, c.SuspendedUntil, c.Reason, c.RateLimit, by, epoch); err != nil {
			return err
		}
		c, err = oneCompany(ctx, tx, company)
		return err
	})
	return c, err
}

// switchedWhere is the condition of the index companies_switched, so that no status reads all companies.
const switchedWhere = `WHERE suspended OR rate_limit IS NOT NULL ORDER BY company_id LIMIT $1`

// SwitchedCompanies returns up to limit companies that are suspended or limited, in the order of their ids.
func (db *DB) SwitchedCompanies(ctx context.Context, limit int) (list []Company, err error) {
	err = db.query(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		list, err = companies(ctx, pool, switchedWhere, limit)
		return err
	})
	return list, err
}
