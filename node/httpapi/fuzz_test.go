package httpapi

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.opentelemetry.io/otel/attribute"

	"github.com/punchclock/punchclock/node/punch"
)

var encoder = attribute.DefaultEncoder()

// mustBeInvalid fails unless err is Invalid and can be encoded as a problem.
func mustBeInvalid(t *testing.T, err error) {
	t.Helper()
	var e *punch.Error
	if !errors.As(err, &e) || e.Code != punch.Invalid || e.Message == "" || len(e.Field) > punch.MaxName {
		t.Fatalf("error is %v, want an Invalid that says what is wrong", err)
	}
	if text := appendProblem(nil, newProblem(e, "")); mustDecode[wireProblem](t, text).Code != punch.Invalid {
		t.Fatalf("problem is %s", text)
	}
}

func FuzzDecodePunch(f *testing.F) {
	f.Add([]byte(good))
	for _, bad := range badPunches {
		f.Add([]byte(bad.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodePunch(body, "acme")
		if err != nil {
			mustBeInvalid(t, err)
			return
		}
		if err := got.Validate(); err != nil || got.Company != "acme" || got.At != punch.Microseconds(got.At) {
			t.Fatalf("got %+v of %q: %v", got, body, err)
		}
		// The decoded punch, encoded again, is the same punch.
		w := wirePunch{ID: got.ID.String(), Employee: got.Employee, Kind: string(got.Kind)}
		if !got.At.IsZero() {
			at := got.At.Format(time.RFC3339Nano)
			w.At = &at
		}
		if got.Source != "" {
			w.Source = &got.Source
		}
		w.Note = &got.Note
		text, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodePunch(text, "acme")
		if err != nil || again != got {
			t.Fatalf("%s is %+v, error %v; want %+v", text, again, err, got)
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add([]byte(batchOf(good, someone(1))))
	f.Add([]byte(`{"punches":[null,{},[[[]]],"\ud800",{"a":1,"a":2}],"x":1}`))
	f.Add([]byte(`{"punches":[` + strings.Repeat("0,", maxBatch) + `0]}`))
	for _, bad := range badPunches {
		f.Add([]byte(batchOf(bad.body)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		items, err := decodeBatch(bytes.Clone(body), "acme")
		if err != nil {
			mustBeInvalid(t, err)
			return
		}
		if len(items) == 0 || len(items) > maxBatch {
			t.Fatalf("%d items of %q", len(items), body)
		}
		for _, it := range items {
			if it.err != nil {
				mustBeInvalid(t, it.err)
			} else if err := it.request.Validate(); err != nil {
				t.Fatalf("claim %+v: %v", it.request, err)
			}
		}
	})
}

func FuzzParseQuery(f *testing.F) {
	f.Add("from=2026-03-01&to=2026-03-08T00:00:00Z")
	f.Add("cursor=" + encodeCursor(punch.Cursor{PunchedAt: now, ID: punch.IDAt(now)}))
	f.Add("from=0000-01-01T00:00:00Z&to=%zz")
	f.Add("to=9999-12-31T23:59:59.999999999-23:59")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw, now)
		if err != nil {
			mustBeInvalid(t, err)
			return
		}
		if span := q.To.Sub(q.From); span <= 0 || span > maxSpan || q.Limit != pageSize+1 {
			t.Fatalf("%q asks for %s to %s", raw, q.From, q.To)
		}
		if q.After != (punch.Cursor{}) && (q.After.PunchedAt.Before(q.From) || !q.After.PunchedAt.Before(q.To)) {
			t.Fatalf("%q continues after %s in %s to %s", raw, q.After.PunchedAt, q.From, q.To)
		}
	})
}

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func FuzzParseInstant(f *testing.F) {
	for _, s := range []string{"2026-03-01T08:59:30.125+01:00", "2026-03-01T8:59:30Z", "2026-03-01T08:59:30,5Z", "0000-01-01T00:00:00Z", "2026-03-01T08:59:30+99:99", "9999-12-31T23:59:59-23:59"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseInstant(s)
		want, parseErr := time.Parse(time.RFC3339, s)
		if ok := parseErr == nil && rfc3339.MatchString(s); ok != (err == nil) {
			t.Fatalf("parseInstant(%q) = %s, %v; RFC 3339: %t", s, got, err, ok)
		}
		if err == nil && (!got.Equal(want.Truncate(time.Microsecond)) || got.Location() != time.UTC) {
			t.Fatalf("parseInstant(%q) = %s, want %s", s, got, want)
		}
	})
}

// FuzzAppendReceipt compares the hand-written JSON with the JSON of the library, for any text that a database might hold.
func FuzzAppendReceipt(f *testing.F) {
	f.Add("acme", "Europe/Berlin", int32(3600), int64(1772352000123456), true)
	f.Add("\"\\\x00\xff\u2028", "America/St_Johns", int32(-12600), int64(-1), false)
	f.Fuzz(func(t *testing.T, text, zone string, offset int32, micros int64, flag bool) {
		text, zone = strings.ToValidUTF8(text, "\uFFFD"), strings.ToValidUTF8(zone, "\uFFFD")
		offset %= 24 * 3600
		at := time.UnixMicro(micros % (200_000_000_000 * 1e6 / 1000)).UTC()
		r := punch.Receipt{
			Company: text, Employee: text, ID: punch.IDAt(now), Kind: punch.Kind(text), PunchedAt: at, ReceivedAt: at, RecordedAt: at,
			Zone: zone, UTCOffset: offset, HomeRegion: zone, EntryRegion: text, Late: flag, NeedsReview: !flag, TraceID: text, Replayed: flag,
		}
		got := mustDecode[wireReceipt](t, appendReceipt(nil, &r))
		stamp := at.Format(wireTime)
		if got.Company != text || got.Zone != zone || got.EntryRegion != text || got.HomeRegion != zone || got.Kind != text || got.TraceID != text {
			t.Fatalf("texts %q and %q became %+v", text, zone, got)
		}
		if got.PunchedAt != stamp || got.ReceivedAt != stamp || got.RecordedAt != stamp || got.Replayed != flag || len(got.Marks) != 1 {
			t.Fatalf("%s and %t became %+v", stamp, flag, got)
		}
		back, err := time.Parse("-07:00", got.UTCOffset)
		if err != nil {
			t.Fatal(err)
		}
		if _, seconds := back.Zone(); seconds != int(offset)/60*60 {
			t.Fatalf("offset %d became %s", offset, got.UTCOffset)
		}
	})
}
