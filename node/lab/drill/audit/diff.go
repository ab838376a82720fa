package audit

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// differences lists in which fields two sides do not agree.
type differences []string

func (d differences) String() string { return strings.Join(d, "; ") }

func differ[T comparable](d *differences, field string, one, other T) {
	if one != other {
		*d = append(*d, fmt.Sprintf("%s is %v, not %v", field, one, other))
	}
}

// differAt compares instants and ignores zone and monotonic part.
func differAt(d *differences, field string, one, other time.Time) {
	const layout = "2006-01-02T15:04:05.000000Z"
	if !one.Equal(other) {
		*d = append(*d, fmt.Sprintf("%s is %s, not %s", field, one.UTC().Format(layout), other.UTC().Format(layout)))
	}
}

// absent tells an absent text from an empty text.
func absent(s *string) string {
	if s == nil {
		return "absent"
	}
	return fmt.Sprintf("%q", *s)
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func instant(t *time.Time) string {
	if t == nil {
		return "absent"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// idTime returns the time inside a UUIDv7, or the zero time for any other text.
func idTime(id string) time.Time {
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 {
		return time.Time{}
	}
	var ms int64
	for _, b := range u[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms).UTC()
}

// claimedAt returns the instant of the punch by the claim.
func claimedAt(c *Claim) time.Time {
	if c.At.IsZero() {
		return idTime(c.ID)
	}
	return c.At
}

// claimAgainstRow lists in which fields a row does not hold the claim. The caller has matched the identity.
func claimAgainstRow(c *Claim, r *Row) differences {
	var d differences
	differ(&d, "day", idTime(c.ID).Format(time.DateOnly), r.Day)
	differ(&d, "kind", c.Kind, r.Kind)
	var at *time.Time
	if !c.At.IsZero() {
		at = &c.At
	}
	differ(&d, "at", instant(at), instant(r.DeviceAt))
	differAt(&d, "punched_at", claimedAt(c), r.PunchedAt)
	differ(&d, "source", absent(orNil(c.Source)), absent(r.Source))
	differ(&d, "note", absent(orNil(c.Note)), absent(r.Note))
	return d
}

// samePunch reports whether claim and row agree in kind and instant. A claim with another source or note is a replay
// of the stored punch.
func samePunch(c *Claim, r *Row) bool { return c.Kind == r.Kind && claimedAt(c).Equal(r.PunchedAt) }

// receiptAgainstRow lists in which fields a receipt differs from the row. It ignores the home of a company that has
// moved since.
func receiptAgainstRow(receipt *Receipt, r *Row, moved bool) differences {
	var d differences
	differ(&d, "kind", receipt.Kind, r.Kind)
	differAt(&d, "punched_at", receipt.PunchedAt, r.PunchedAt)
	differAt(&d, "received_at", receipt.ReceivedAt, r.ReceivedAt)
	differAt(&d, "recorded_at", receipt.RecordedAt, r.RecordedAt)
	differ(&d, "zone", receipt.Zone, r.Zone)
	differ(&d, "utc_offset", receipt.UTCOffset, r.UTCOffset)
	differ(&d, "entry_region", receipt.EntryRegion, r.EntryRegion)
	differ(&d, "late", receipt.Late, r.Late)
	differ(&d, "review", receipt.Review, r.Review)
	differ(&d, "trace_id", absent(orNil(receipt.TraceID)), absent(r.TraceID))
	if !moved {
		differ(&d, "home_region", receipt.HomeRegion, r.Region)
	}
	return d
}

// receiptAgainstClaim lists in which fields a receipt is not for the claim.
func receiptAgainstClaim(receipt *Receipt, c *Claim) differences {
	var d differences
	differ(&d, "company", receipt.Company, c.Company)
	differ(&d, "employee", receipt.Employee, c.Employee)
	differ(&d, "id", receipt.ID, c.ID)
	differ(&d, "kind", receipt.Kind, c.Kind)
	differAt(&d, "punched_at", receipt.PunchedAt, claimedAt(c))
	return d
}
