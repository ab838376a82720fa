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

// Kept is a punch in an outbox.
type Kept struct {
	Request
	// At which the punch was first stored, by this machine's clock.
	KeptAt time.Time
	// Refusal is set in the quarantine, when the service said no for good.
	Refusal *Refusal
	// Corrupt says why the file cannot be read. Then only the id is known, or
	// not even that: File is what there is.
	Corrupt error
	File    string // relative to the outbox's folder
	// revision counts the moves between waiting and quarantine. When a crash
	// left a punch in both, the higher one holds.
	revision uint32
}

// Refusal is a final answer as it was given.
type Refusal struct {
	At       time.Time  `json:"at"` // by this machine's clock
	Status   int        `json:"status,omitzero"`
	Code     punch.Code `json:"code"`
	Field    string     `json:"field,omitempty"`
	Detail   string     `json:"detail,omitempty"`
	TraceID  string     `json:"trace_id,omitempty"`
	Endpoint string     `json:"endpoint,omitempty"`
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

// clip makes a text of the service's one that can always be kept.
func clip(s string, limit int) string {
	return strings.ToValidUTF8(s[:min(len(s), limit)], "")
}

// fileMagic begins each file: what it is, the version of its format, and the
// CRC-32C of all bytes after the first line. Worn flash memory flips bits, and
// a flipped digit is still JSON: it would be another employee's punch.
const fileMagic = "punchclock-punch 1 %08x\n"

// Bounds of a file, in bytes. A punch that the API takes needs a quarter of
// maxPunchBytes unless its note is all escapes. What a refusal says is cut so
// that a punch which was stored can always be stored with its refusal: JSON
// takes up to six bytes for one.
const (
	maxPunchBytes = 8 << 10
	maxKeptBytes  = 2 * maxPunchBytes
	maxDetail     = 500
	maxWord       = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// keptJSON is the body of a file.
type keptJSON struct {
	Revision uint32    `json:"revision"`
	KeptAt   time.Time `json:"kept_at"`
	Punch    wirePunch `json:"punch"` // as it is sent
	Refusal  *Refusal  `json:"refusal,omitempty"`
}

// encodeKept fails for a punch that is too large or that JSON cannot carry
// unchanged.
func encodeKept(k *Kept) ([]byte, error) {
	v := keptJSON{Revision: k.revision, KeptAt: k.KeptAt.UTC(), Punch: toWire(k.Request), Refusal: k.Refusal}
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	content := append(fmt.Appendf(nil, fileMagic, crc32.Checksum(body, castagnoli)), body...)
	limit := maxPunchBytes
	if k.Refusal != nil {
		limit = maxKeptBytes
	}
	if len(content) > limit {
		return nil, fmt.Errorf("it takes %d bytes in a file, more than %d", len(content), limit)
	}
	return content, nil
}

// errCorrupt is the reason for every file that is set aside unread.
var errCorrupt = errors.New("the file is damaged")

// decodeKept reads a file that should hold the punch id. Errors are errCorrupt.
func decodeKept(content []byte, id punch.ID) (Kept, error) {
	if len(content) == 0 {
		return Kept{}, fmt.Errorf("%w: it is empty", errCorrupt)
	}
	if len(content) > maxKeptBytes {
		return Kept{}, fmt.Errorf("%w: it exceeds %d bytes", errCorrupt, maxKeptBytes)
	}
	header, body, _ := bytes.Cut(content, []byte("\n"))
	if want := fmt.Appendf(nil, fileMagic, crc32.Checksum(body, castagnoli)); !bytes.Equal(append(header, '\n'), want) {
		return Kept{}, fmt.Errorf("%w: it begins with %.40q, its content asks for %q", errCorrupt, header, want)
	}
	var v keptJSON
	if err := json.Unmarshal(body, &v); err != nil {
		return Kept{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	found, err := punch.ParseID(v.Punch.ID)
	if err != nil {
		return Kept{}, fmt.Errorf("%w: id: %w", errCorrupt, err)
	}
	if found != id {
		return Kept{}, fmt.Errorf("%w: it holds punch %s", errCorrupt, found)
	}
	return Kept{Request: v.Punch.request(found), KeptAt: v.KeptAt, Refusal: v.Refusal, revision: v.Revision}, nil
}

func (w *wirePunch) request(id punch.ID) Request {
	return Request{ID: id, Employee: w.Employee, Kind: punch.Kind(w.Kind), At: w.At, Source: w.Source, Note: w.Note}
}

// refused is the refusal as Punch returns it.
func (k *Kept) refused() *Error {
	r := k.Refusal
	if r == nil { // somebody moved the file by hand
		r = &Refusal{Code: punch.Invalid, Detail: "it was set aside"}
	}
	return &Error{ID: k.ID, Status: r.Status, Code: r.Code, Final: true, Field: r.Field, Detail: r.Detail, TraceID: r.TraceID, Endpoint: r.Endpoint}
}

// same reports whether both are the same punch, as the service would judge.
func (k *Kept) same(r Request) bool {
	a, b := toWire(k.Request), toWire(r)
	return a.At.Equal(b.At) && a.ID == b.ID && a.Employee == b.Employee && a.Kind == b.Kind && a.Source == b.Source && a.Note == b.Note
}
