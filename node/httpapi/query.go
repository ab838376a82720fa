package httpapi

import (
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

const (
	// pageSize is the most punches in one answer: four months of a person who clocks in and out twice a day, in 250 kB.
	pageSize = 500
	// maxSpan is two months, enough for a time sheet. The database reads a range of keys for each day.
	maxSpan = 62 * 24 * time.Hour
	// defaultSpan is the range of a query without from.
	defaultSpan = 7 * 24 * time.Hour
	// futureSpan covers punches that a fast device clock dated into the future, so that callers read their own writes.
	futureSpan = 24 * time.Hour
)

// parseQuery reads from, to and cursor. Without from, the range begins 7 days before to or now. Without to, it ends
// futureSpan from now, and at most 62 days after from.
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
	if err := completeRange(&q, punch.Microseconds(now)); err != nil {
		return q, err
	}
	return q, parseCursor(&q, values.Get("cursor"))
}

// completeRange fills in the absent bounds and checks them.
func completeRange(q *punch.Query, now time.Time) error {
	if q.From.IsZero() {
		end := q.To
		if end.IsZero() {
			end = now
		}
		q.From = end.Add(-defaultSpan)
	}
	if q.To.IsZero() {
		q.To = now.Add(futureSpan)
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

// parseBound reads an instant, or a date as the start of that day in UTC. It returns zero for "".
func parseBound(name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t, err = parseInstant(s)
	}
	if err != nil || t.IsZero() { // zero means absent
		return time.Time{}, punch.InvalidField(name, "must be a date such as 2026-03-01, or an RFC 3339 time whose + is written %%2B in a URL")
	}
	return t, nil
}

// cursorSize is the size of a time in microseconds and an id.
const cursorSize = 8 + len(punch.ID{})

func encodeCursor(c punch.Cursor) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, cursorSize), uint64(c.PunchedAt.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(b, c.ID[:]...))
}

// parseCursor reads the cursor. When the caller leaves from to the clock, the range may begin after the cursor. The
// cursor then changes nothing.
func parseCursor(q *punch.Query, s string) error {
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
