package punch

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxName bounds companies, employees and sources: long enough for a
	// UUID with a prefix, short enough for a key that is stored with every row.
	MaxName = 64
	// MaxNote bounds the free text, in bytes: a sentence or two, so that a
	// batch of 512 rows stays well under 1 MiB.
	MaxNote = 500
	// MaxSkewToID is the most that the punch's time may differ from the time
	// in its id. With it a local work date touches at most three UTC days.
	MaxSkewToID = 24 * time.Hour
	// LateAfter is the age from which a punch is marked late: payroll has
	// usually looked at the day by then.
	LateAfter = 7 * 24 * time.Hour
	// ReviewAfter is the age from which a punch is marked for review: no
	// outbox is a year old, a device that lost its clock is.
	ReviewAfter = 366 * 24 * time.Hour
)

// ValidName reports whether s may name a company, an employee or a source: 1
// to 64 of letters, digits, '.', '_' and '-'. A lone "." or ".." may not: it
// could not stand in a path.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

const nameRule = "must be 1 to 64 of letters, digits, '.', '_' and '-', and not . or .."

// Validate checks the claim and returns an Invalid *Error that names the first
// field that is wrong. It does not look at the clock: see CheckClock.
func (c *Request) Validate() error {
	if !ValidName(c.Company) {
		return InvalidField("company", nameRule)
	}
	if !ValidName(c.Employee) {
		return InvalidField("employee", nameRule)
	}
	if c.ID == (ID{}) {
		return InvalidField("id", "%s", ErrNotUUIDv7)
	}
	if !validKind(c.Kind) {
		return InvalidField("kind", "must be one of in, out, break_start, break_end, auto")
	}
	if c.Source != "" && !ValidName(c.Source) {
		return InvalidField("source", nameRule)
	}
	if err := validNote(c.Note); err != nil {
		return err
	}
	if d := c.PunchedAt().Sub(c.ID.Time()); d > MaxSkewToID || d < -MaxSkewToID {
		return InvalidField("at", "must be within 24 hours of the time in the id, which is %s", c.ID.Time().Format(time.RFC3339))
	}
	return nil
}

func validKind(k Kind) bool {
	return slices.Contains(Kinds, k)
}

func validNote(s string) error {
	switch {
	case len(s) > MaxNote:
		return InvalidField("note", "must be at most %d bytes, is %d", MaxNote, len(s))
	case !utf8.ValidString(s):
		return InvalidField("note", "must be valid UTF-8")
	case strings.IndexByte(s, 0) >= 0: // PostgreSQL cannot store it, CockroachDB would
		return InvalidField("note", "must not contain the NUL character")
	default:
		return nil
	}
}

// Stamped stamps a claim that has just arrived: once, at the entry node,
// never again further in.
func Stamped(c Request, now time.Time, entryRegion, traceID string) Punch {
	now = Microseconds(now)
	age := now.Sub(c.PunchedAt())
	return Punch{Request: c, Stamp: Stamp{
		ReceivedAt: now, EntryRegion: entryRegion, TraceID: traceID,
		Late: age > LateAfter, NeedsReview: age > ReviewAfter,
	}}
}

// CheckClock refuses a punch whose time is more than skew ahead of its
// arrival, with ClockAhead: not final, the same id passes once the time has
// come. A punch from the past is never refused.
func (p *Punch) CheckClock(skew time.Duration) error {
	ahead := p.PunchedAt().Sub(p.ReceivedAt)
	if ahead <= skew {
		return nil
	}
	return &Error{
		Code: ClockAhead, Field: "at", RetryAfter: ahead - skew,
		Message: "the punch lies " + ahead.Round(time.Second).String() + " in the future by this node's clock; correct the device's clock and send the same id again",
	}
}
