package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

const (
	// pageSize is the most punches in one answer: three months of a person
	// who clocks in and out twice a day, in 250 kB.
	pageSize = 500
	// maxSpan is two months, what a time sheet or a correction looks at. The
	// database reads a range of keys for each of its days.
	maxSpan = 62 * 24 * time.Hour
	// defaultSpan is what a person asks for who asks for nothing: the week.
	defaultSpan = 7 * 24 * time.Hour
	// ahead covers punches that a device's fast clock dated into the future,
	// so that everybody reads their own writes.
	ahead = 24 * time.Hour
)

// parseQuery reads from, to and cursor. Without from it asks for the 7 days
// before to or now; without to for what is there since from, but for at most
// 62 days.
func parseQuery(raw string, now time.Time) (punch.Query, error) {
	q := punch.Query{Limit: pageSize + 1} // one more tells whether there is a next page
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, punch.Errorf(punch.Invalid, "the query is not well formed")
	}
	for name, given := range values {
		switch {
		case name != "from" && name != "to" && name != "cursor":
			return q, punch.InvalidField(name[:min(len(name), punch.MaxName)], "is not a parameter of this path")
		case len(given) > 1:
			return q, punch.InvalidField(name, "must appear only once")
		}
	}
	if q.From, err = parseBound("from", values.Get("from")); err != nil {
		return q, err
	}
	if q.To, err = parseBound("to", values.Get("to")); err != nil {
		return q, err
	}
	if err := bound(&q, punch.Microseconds(now)); err != nil {
		return q, err
	}
	return q, after(&q, values.Get("cursor"))
}

// bound fills in the bounds that were not given and checks them.
func bound(q *punch.Query, now time.Time) error {
	if q.From.IsZero() {
		end := q.To
		if end.IsZero() {
			end = now
		}
		q.From = end.Add(-defaultSpan)
	}
	if q.To.IsZero() {
		q.To = now.Add(ahead)
		if latest := q.From.Add(maxSpan); latest.Before(q.To) {
			q.To = latest
		}
	}
	switch span := q.To.Sub(q.From); {
	case span <= 0:
		return punch.InvalidField("from", "must be before to, which is %s", q.To.Format(time.RFC3339))
	case span > maxSpan:
		return punch.InvalidField("to", "must be at most 62 days after from")
	default:
		return nil
	}
}

// parseBound reads an instant or the start of a UTC day; zero for "".
func parseBound(name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t, err = parseInstant(s)
	}
	if err != nil || t.IsZero() { // zero means not given, and nobody worked in the year 1
		return time.Time{}, punch.InvalidField(name, "must be a date such as 2026-03-01, or an RFC 3339 time whose + is written %%2B in a URL")
	}
	return t, nil
}

// cursorSize is the time in microseconds and the id.
const cursorSize = 8 + len(punch.ID{})

func encodeCursor(c punch.Cursor) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, cursorSize), uint64(c.PunchedAt.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(b, c.ID[:]...))
}

// after reads the cursor. One from before the range, which happens when from
// is left to the clock, is as good as none.
func after(q *punch.Query, s string) error {
	if s == "" {
		return nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != cursorSize {
		return notCursor()
	}
	c := punch.Cursor{PunchedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC(), ID: punch.ID(b[8:])}
	if !c.PunchedAt.Before(q.To) {
		return notCursor()
	}
	if !c.PunchedAt.Before(q.From) {
		q.After = c
	}
	return nil
}

func notCursor() error {
	return punch.InvalidField("cursor", "must be the next of an answer to the same query")
}
