package punch

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// MaxName bounds companies, employees and sources in bytes. A UUID with a prefix fits. Each row stores company and
	// employee in its key.
	MaxName = 64
	// MaxNote bounds the free text in bytes: a sentence or two. A batch of 512 rows then stays well under 1 MiB.
	MaxNote = 500
	// MaxSkewToID is the largest difference between the punch's time and the time in its id. With it, a local work date
	// touches at most three UTC days.
	MaxSkewToID = 24 * time.Hour
	// LateAfter is the age from which a punch is marked late. Payroll has usually processed the day by then.
	LateAfter = 7 * 24 * time.Hour
	// ReviewAfter is the age from which a punch is marked for review. No outbox is a year old, but a device that lost its
	// clock sends such punches.
	ReviewAfter = 366 * 24 * time.Hour
)

const (
	// NameRule says what ValidCompany and ValidSource accept.
	NameRule = "must be 1 to 64 of letters, digits, '.', '_' and '-', and not . or .."
	// EmployeeRule says what ValidEmployee accepts.
	EmployeeRule = "must be 1 to 64 of letters, digits, '.', '_', '-', '@' and '+', and not . or .."
)

// ValidCompany reports whether s can be the id of a company. See NameRule.
func ValidCompany(s string) bool { return validName(s, "") }

// ValidEmployee reports whether s can be the id of an employee. See EmployeeRule. E-mail addresses are the ids of
// employees in small companies.
func ValidEmployee(s string) bool { return validName(s, "@+") }

// ValidSource reports whether s can name the source of a punch. See NameRule.
func ValidSource(s string) bool { return validName(s, "") }

// validName accepts ASCII letters, digits, '.', '_', '-' and the characters of more. All of them stand in the path of a
// URL without an escape. "." and ".." do not: clients and proxies remove them from a path.
func validName(s, more string) bool {
	if s == "" || len(s) > MaxName || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		case strings.IndexByte(more, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// Validate checks the request and returns an Invalid *Error that names the first wrong field. It does not look at the
// clock: see CheckClock.
func (r *Request) Validate() error {
	if !ValidCompany(r.Company) {
		return InvalidField("company", NameRule)
	}
	if !ValidEmployee(r.Employee) {
		return InvalidField("employee", EmployeeRule)
	}
	if r.ID == (ID{}) {
		return InvalidField("id", "%s", ErrNotUUIDv7)
	}
	if !slices.Contains(Kinds, r.Kind) {
		return InvalidField("kind", "must be one of in, out, break_start, break_end, auto")
	}
	if r.Source != "" && !ValidSource(r.Source) {
		return InvalidField("source", NameRule)
	}
	if err := validNote(r.Note); err != nil {
		return err
	}
	if d := r.PunchedAt().Sub(r.ID.Time()); d > MaxSkewToID || d < -MaxSkewToID {
		return InvalidField("at", "must be within 24 hours of the time in the id, which is %s", r.ID.Time().Format(time.RFC3339))
	}
	return nil
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

// Stamped stamps a request that has just arrived. Only the entry node does so, once.
func Stamped(r Request, now time.Time, entryRegion, traceID string) Punch {
	now = Microseconds(now)
	age := now.Sub(r.PunchedAt())
	return Punch{Request: r, Stamp: Stamp{
		ReceivedAt: now, EntryRegion: entryRegion, TraceID: traceID,
		Late: age > LateAfter, NeedsReview: age > ReviewAfter,
	}}
}

// CheckClock refuses a punch whose time is more than skew ahead of its arrival, with ClockAhead. The refusal is not
// final: the same id passes once its time has come. A punch from the past is never refused.
func (p *Punch) CheckClock(skew time.Duration) error {
	ahead := p.PunchedAt().Sub(p.ReceivedAt)
	if ahead <= skew {
		return nil
	}
	return &Error{
		Code: ClockAhead, Field: "at", RetryAfter: ahead - skew,
		Message: "the punch is " + ahead.Round(time.Second).String() + " ahead of this node's clock; correct the device's clock and send the same id again",
	}
}
