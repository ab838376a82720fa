package client

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// Entry is a punch in an outbox.
type Entry struct {
	Request
	// KeptAt is when the punch was first stored, by the clock of this machine.
	KeptAt time.Time
	// Corrects is the id of the quarantined punch that this punch stands for, or zero.
	Corrects punch.ID
	// Refusal is the final answer of the service. It is set in the quarantine only.
	Refusal *Refusal
	// Correction names the punch that stands for this quarantined punch, if a person has corrected it.
	Correction *Correction
	// Corrupt says why the file cannot be read. Then only ID and File are known.
	Corrupt error
	File    string // relative to the folder of the outbox
	// revision counts the moves between waiting and quarantine. If a crash left a punch in both, the higher one is valid.
	revision uint32
}

// Time is when the employee punched, as the service reads it.
func (e *Entry) Time() time.Time {
	if e.At.IsZero() {
		return e.ID.Time()
	}
	return e.At
}

// Refusal is a final answer as the service gave it.
type Refusal struct {
	At       time.Time  `json:"at"` // by the clock of this machine
	Status   int        `json:"status,omitzero"`
	Code     punch.Code `json:"code"`
	Field    string     `json:"field,omitempty"`
	Detail   string     `json:"detail,omitempty"`
	TraceID  string     `json:"trace_id,omitempty"`
	Endpoint string     `json:"endpoint,omitempty"`
}

// Correction says which punch a person sent instead of a quarantined one.
type Correction struct {
	At        time.Time `json:"at"` // of the correction, by the clock of this machine
	ID        string    `json:"id"` // of the new punch
	PunchedAt time.Time `json:"punched_at"`
}

func refusalOf(e *Error, now time.Time) *Refusal {
	detail := e.Detail
	if detail == "" && e.Err != nil {
		detail = e.Err.Error()
	}
	return &Refusal{
		At: now.UTC(), Status: e.Status, Code: punch.Code(clip(string(e.Code), maxWord)), Field: clip(e.Field, maxWord),
		Detail: clip(detail, maxDetail), TraceID: clip(e.TraceID, maxWord), Endpoint: clip(e.Endpoint, maxDetail),
	}
}

// clip shortens a text of the service so that it can always be stored.
func clip(s string, limit int) string {
	return strings.ToValidUTF8(s[:min(len(s), limit)], "")
}

// fileMagic is the first line of a file: the kind of file, the version of its format, and the CRC-32C of all bytes after
// the line. Worn flash memory flips bits. A flipped digit is still valid JSON and would be the punch of another employee.
const fileMagic = "punchclock-punch 1 %08x\n"

// Bounds in bytes. A valid punch needs a quarter of maxPunchBytes unless its note consists of escapes. The texts of a
// refusal are clipped so that a stored punch can always be stored with its refusal. JSON takes up to six bytes for one.
const (
	maxPunchBytes = 8 << 10
	maxEntryBytes = 2 * maxPunchBytes
	maxDetail     = 500
	maxWord       = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entryJSON is the body of a file.
type entryJSON struct {
	Revision   uint32      `json:"revision"`
	KeptAt     time.Time   `json:"kept_at"`
	Punch      wirePunch   `json:"punch"` // as it is sent
	Corrects   string      `json:"corrects,omitempty"`
	Refusal    *Refusal    `json:"refusal,omitempty"`
	Correction *Correction `json:"correction,omitempty"`
}

// encode fails for a punch that is too large or that JSON cannot carry unchanged.
func (e *Entry) encode() ([]byte, error) {
	v := entryJSON{Revision: e.revision, KeptAt: e.KeptAt.UTC(), Punch: toWire(e.Request), Refusal: e.Refusal, Correction: e.Correction}
	if e.Corrects != (punch.ID{}) {
		v.Corrects = e.Corrects.String()
	}
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	content := append(fmt.Appendf(nil, fileMagic, crc32.Checksum(body, castagnoli)), body...)
	limit := maxPunchBytes
	if e.Refusal != nil {
		limit = maxEntryBytes
	}
	if len(content) > limit {
		return nil, fmt.Errorf("the file would take %d bytes, the bound is %d", len(content), limit)
	}
	return content, nil
}

// errCorrupt is the reason for each file in the quarantine that cannot be read.
var errCorrupt = errors.New("the file is damaged")

// decodeEntry reads the file of the punch with that id. Its errors are errCorrupt.
func decodeEntry(content []byte, id punch.ID) (Entry, error) {
	if len(content) == 0 {
		return Entry{}, fmt.Errorf("%w: it is empty", errCorrupt)
	}
	if len(content) > maxEntryBytes {
		return Entry{}, fmt.Errorf("%w: it exceeds %d bytes", errCorrupt, maxEntryBytes)
	}
	header, body, _ := bytes.Cut(content, []byte("\n"))
	if want := fmt.Appendf(nil, fileMagic, crc32.Checksum(body, castagnoli)); !bytes.Equal(append(header, '\n'), want) {
		return Entry{}, fmt.Errorf("%w: its first line is %.40q, its content needs %q", errCorrupt, header, want)
	}
	var v entryJSON
	if err := json.Unmarshal(body, &v); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	found, err := punch.ParseID(v.Punch.ID)
	if err != nil {
		return Entry{}, fmt.Errorf("%w: id: %w", errCorrupt, err)
	}
	if found != id {
		return Entry{}, fmt.Errorf("%w: it holds punch %s", errCorrupt, found)
	}
	e := Entry{Request: v.Punch.request(found), KeptAt: v.KeptAt, Refusal: v.Refusal, Correction: v.Correction, revision: v.Revision}
	if v.Corrects != "" {
		if e.Corrects, err = punch.ParseID(v.Corrects); err != nil {
			return Entry{}, fmt.Errorf("%w: corrects: %w", errCorrupt, err)
		}
	}
	return e, nil
}

func (w *wirePunch) request(id punch.ID) Request {
	return Request{ID: id, Employee: w.Employee, Kind: punch.Kind(w.Kind), At: w.At, Source: w.Source, Note: w.Note}
}

// refusalError is the refusal as Punch returned it.
func (e *Entry) refusalError() *Error {
	r := e.Refusal
	if r == nil { // a person moved the file
		r = &Refusal{Code: punch.Invalid, Detail: "the punch is in quarantine without a reason"}
	}
	return &Error{
		ID: e.ID, Status: r.Status, Code: r.Code, Final: true, Field: r.Field, Detail: r.Detail, TraceID: r.TraceID, Endpoint: r.Endpoint,
	}
}

// equals reports whether r is the punch of e, by the rule of the service: source and note do not make another punch.
func (e *Entry) equals(r Request) bool {
	other := Entry{Request: r}
	return e.ID == r.ID && e.Employee == r.Employee && e.Kind == r.Kind &&
		punch.Microseconds(e.Time()).Equal(punch.Microseconds(other.Time()))
}
