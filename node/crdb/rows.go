package crdb

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// row is one key of a batch. It is sent to the database once for all its callers.
type row struct {
	punch   *punch.Punch // of the first caller
	callers []int        // positions in the batch, in order
	stored  *punch.Stored
	err     error
}

func (r *row) resolved() bool { return r.stored != nil || r.err != nil }

// groupRows groups a batch by key and sorts it by the primary key.
func groupRows(items []punch.Item) []*row {
	byKey := make(map[punch.Key]*row, len(items))
	rows := make([]*row, 0, len(items))
	for i := range items {
		p := &items[i].Punch
		r, seen := byKey[p.Key()]
		if !seen {
			r = &row{punch: p}
			byKey[p.Key()] = r
			rows = append(rows, r)
		}
		r.callers = append(r.callers, i)
	}
	slices.SortFunc(rows, func(a, b *row) int { return compareKeys(a.punch, b.punch) })
	return rows
}

// compareKeys orders by (company, day, employee, id), as the primary key does.
func compareKeys(a, b *punch.Punch) int {
	if c := strings.Compare(a.Company, b.Company); c != 0 {
		return c
	}
	if c := a.ID.Day().Compare(b.ID.Day()); c != 0 {
		return c
	}
	if c := strings.Compare(a.Employee, b.Employee); c != 0 {
		return c
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

// outcomesOf returns each caller's own outcome. Callers of one key may have sent different content. Only the caller
// whose stamp is stored gets a receipt that is not a replay.
func outcomesOf(items []punch.Item, rows []*row) []punch.Outcome {
	outcomes := make([]punch.Outcome, len(items))
	for _, r := range rows {
		fresh := false
		for _, i := range r.callers {
			if r.err != nil {
				outcomes[i].Err = r.err
				continue
			}
			receipt, err := r.stored.Resolve(&items[i].Punch)
			if err == nil && !receipt.Replayed {
				receipt.Replayed = fresh
				fresh = true
			}
			outcomes[i] = punch.Outcome{Receipt: receipt, Err: err}
		}
	}
	return outcomes
}

// insertArgs returns the arrays of dml/insert.sql.
func insertArgs(home string, rows []*row) []any {
	n := len(rows)
	var (
		company, employee, kind, zone, entry = make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
		source, note, traceID                = make([]*string, n), make([]*string, n), make([]*string, n)
		day, punchedAt, receivedAt           = make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
		deviceAt                             = make([]*time.Time, n)
		id                                   = make([][16]byte, n)
		epoch                                = make([]int64, n)
		offset                               = make([]int32, n)
		late, review                         = make([]bool, n), make([]bool, n)
		fingerprint                          = make([][]byte, n)
	)
	for i, r := range rows {
		p := r.punch
		company[i], employee[i], kind[i], zone[i], entry[i] = p.Company, p.Employee, string(p.Kind), p.Zone, p.EntryRegion
		source[i], note[i], traceID[i] = optional(p.Source), optional(p.Note), optional(p.TraceID)
		day[i], punchedAt[i], receivedAt[i] = p.ID.Day(), p.PunchedAt(), p.ReceivedAt
		if !p.At.IsZero() {
			deviceAt[i] = &punchedAt[i]
		}
		id[i], epoch[i], offset[i], late[i], review[i] = p.ID, p.Epoch, p.UTCOffset, p.Late, p.NeedsReview
		digest := p.Fingerprint()
		fingerprint[i] = digest[:]
	}
	return []any{
		home, company, day, employee, id, epoch,
		kind, deviceAt, punchedAt, receivedAt, zone, offset,
		entry, source, note, late, review, traceID, fingerprint,
	}
}

// keyArgs returns the arrays of dml/readback.sql.
func keyArgs(home string, rows []*row) []any {
	n := len(rows)
	company, day, employee, id := make([]string, n), make([]time.Time, n), make([]string, n), make([][16]byte, n)
	for i, r := range rows {
		company[i], day[i], employee[i], id[i] = r.punch.Company, r.punch.ID.Day(), r.punch.Employee, r.punch.ID
	}
	return []any{home, company, day, employee, id}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
