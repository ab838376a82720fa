package httpapi

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/punch"
)

// wireTime is RFC 3339 in UTC, with microseconds as the database keeps them.
const wireTime = "2006-01-02T15:04:05.000000Z"

// appendReceipt writes a receipt as JSON. Every punch passes here, and encoding a struct would first allocate each text.
func appendReceipt(b []byte, r *punch.Receipt) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, r.ID.String()...)
	b = appendText(append(b, `","company":`...), r.Company)
	b = appendText(append(b, `,"employee":`...), r.Employee)
	b = appendText(append(b, `,"kind":`...), string(r.Kind))
	b = appendTime(append(b, `,"punched_at":`...), r.PunchedAt)
	b = appendTime(append(b, `,"received_at":`...), r.ReceivedAt)
	b = appendTime(append(b, `,"recorded_at":`...), r.RecordedAt)
	b = appendText(append(b, `,"zone":`...), r.Zone)
	b = appendOffset(append(b, `,"utc_offset":`...), r.UTCOffset)
	b = appendText(append(b, `,"home_region":`...), r.HomeRegion)
	b = appendText(append(b, `,"entry_region":`...), r.EntryRegion)
	b = appendMarks(append(b, `,"marks":`...), r)
	if r.TraceID != "" {
		b = appendText(append(b, `,"trace_id":`...), r.TraceID)
	}
	if r.Replayed {
		return append(b, `,"replayed":true}`...)
	}
	return append(b, `,"replayed":false}`...)
}

func appendText[S ~string](b []byte, s S) []byte {
	b, _ = jsontext.AppendQuote(b, s) // the only error is invalid UTF-8, which AppendQuote has replaced
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, wireTime)
	return append(b, '"')
}

// appendOffset writes seconds east of UTC as "+02:00".
func appendOffset(b []byte, seconds int32) []byte {
	sign := byte('+')
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	hours, minutes := byte(seconds/3600), byte(seconds/60%60)
	return append(b, '"', sign, '0'+hours/10, '0'+hours%10, ':', '0'+minutes/10, '0'+minutes%10, '"')
}

func appendMarks(b []byte, r *punch.Receipt) []byte {
	switch {
	case r.Late && r.NeedsReview:
		return append(b, `["late","review"]`...)
	case r.Late:
		return append(b, `["late"]`...)
	case r.NeedsReview:
		return append(b, `["review"]`...)
	default:
		return append(b, `[]`...)
	}
}
