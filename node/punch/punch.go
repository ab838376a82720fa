// Package punch is the domain: what a punch is, what makes two of them the
// same, what a receipt says and how a refusal is named. It does no I/O and
// knows neither HTTP nor SQL.
package punch

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Kind says what the employee did.
type Kind string

// The kinds of punch. Auto leaves it to the attendance fold to decide whether
// the employee came or went.
const (
	In         Kind = "in"
	Out        Kind = "out"
	BreakStart Kind = "break_start"
	BreakEnd   Kind = "break_end"
	Auto       Kind = "auto"
)

// Kinds lists every kind in the order the API documents them.
var Kinds = []Kind{In, Out, BreakStart, BreakEnd, Auto}

// Punch is one clock-in event on its way to the database. The fields of Request
// came from the caller; Stamp and Route were added by Punchclock.
type Punch struct {
	Request
	Stamp
	Route
}

// Request is what the caller sent. Identity and fingerprint cover the claim and
// nothing else, so that a retry through another node is still the same punch.
type Request struct {
	Company  string
	Employee string
	ID       ID
	Kind     Kind
	// At is the device's time, zero when the caller sent none.
	At     time.Time
	Source string // what recorded it, such as a terminal's name; may be empty
	Note   string // free text; may be empty
}

// Stamp is what the entry node adds, once, when the request arrives.
type Stamp struct {
	ReceivedAt  time.Time // by the entry node's clock, whole microseconds
	EntryRegion string
	TraceID     string // 32 hex digits, empty when the request had no trace
	Late        bool   // older than LateAfter when it arrived
	Review      bool   // so old that the device's clock must have been wrong
}

// Route is the home under which the punch was dispatched. The database stores
// the punch only while that home still stands.
type Route struct {
	HomeRegion string
	Epoch      int64
	Zone       string // IANA name of the company's time zone
	UTCOffset  int32  // seconds east of UTC in Zone at PunchedAt
}

// Key identifies a punch: ids are unique per employee, not globally.
type Key struct {
	Company  string
	Employee string
	ID       ID
}

// Key returns the identity of the punch.
func (c *Request) Key() Key { return Key{Company: c.Company, Employee: c.Employee, ID: c.ID} }

// PunchedAt returns when the employee punched: the device's time, or the time
// inside the id when the device sent none. Whole microseconds, UTC.
func (c *Request) PunchedAt() time.Time {
	if c.At.IsZero() {
		return c.ID.Time()
	}
	return Microseconds(c.At)
}

// Size approximates the memory that a waiting punch holds, in bytes.
func (p *Punch) Size() int {
	// 512 covers the fixed fields, the queue entry and the caller's wait.
	const fixed = 512
	return fixed + len(p.Company) + len(p.Employee) + len(p.Source) + len(p.Note) + len(p.Zone)
}

// Fingerprint tells whether two claims under one Key have the same content.
type Fingerprint [16]byte

// Fingerprint digests the claim's content: SHA-256 over length-prefixed
// fields, cut to 128 bits. The key itself is left out. It is stored with the
// punch, so its encoding must never change.
func (c *Request) Fingerprint() Fingerprint {
	var scratch [256]byte
	b := scratch[:0]
	b = appendField(b, string(c.Kind))
	if c.At.IsZero() {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint64(b, uint64(c.At.UnixMicro()))
	}
	b = appendField(b, c.Source)
	b = appendField(b, c.Note)
	sum := sha256.Sum256(b)
	return Fingerprint(sum[:16])
}

func appendField(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Receipt is the proof that a punch is committed.
type Receipt struct {
	Company     string
	Employee    string
	ID          ID
	Kind        Kind
	PunchedAt   time.Time // by the device
	ReceivedAt  time.Time // by the entry node
	RecordedAt  time.Time // by the database, at its statement, not at its commit
	Zone        string
	UTCOffset   int32 // seconds east of UTC
	HomeRegion  string
	EntryRegion string
	Late        bool
	Review      bool
	TraceID     string
	// Replayed is set when the punch had been committed by an earlier request.
	Replayed bool
}

// Receipt returns the receipt of p as committed at recordedAt.
func (p *Punch) Receipt(recordedAt time.Time) Receipt {
	return Receipt{
		Company: p.Company, Employee: p.Employee, ID: p.ID, Kind: p.Kind,
		PunchedAt: p.PunchedAt(), ReceivedAt: p.ReceivedAt, RecordedAt: recordedAt.UTC(),
		Zone: p.Zone, UTCOffset: p.UTCOffset,
		HomeRegion: p.HomeRegion, EntryRegion: p.EntryRegion,
		Late: p.Late, Review: p.Review, TraceID: p.TraceID,
	}
}

// Recorder records a punch and returns its receipt once the punch is
// committed. Errors are *Error; any other error means Unavailable. When an
// error is not final the punch may or may not be committed, and recording the
// same punch again settles it.
type Recorder interface {
	Record(ctx context.Context, p Punch) (Receipt, error)
}

// Outcome is what became of one punch of a batch: a receipt, or an error.
type Outcome struct {
	Receipt Receipt
	Err     error
}

// Microseconds cuts t to what the database keeps.
func Microseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Item is a punch in a batch together with the context of the request that
// brought it: its deadline and its trace, which the batch does not share.
type Item struct {
	Ctx context.Context //nolint:containedctx // a batch carries many requests
	Punch
}

// Stored is what the database holds under a key.
type Stored struct {
	Receipt
	Fingerprint Fingerprint
}

// Resolve answers a claim from what is stored under its key: the receipt of
// that row, or Conflict when the row has other content.
func (s *Stored) Resolve(p *Punch) (Receipt, error) {
	if s.Fingerprint != p.Fingerprint() {
		return Receipt{}, Errorf(Conflict, "this id is already used for another punch of the employee, recorded at %s",
			s.RecordedAt.Format("2006-01-02T15:04:05Z07:00"))
	}
	r := s.Receipt
	// A row that carries this very request's stamp was written for it, even
	// if the answer to the statement that wrote it was lost.
	r.Replayed = !s.ReceivedAt.Equal(p.ReceivedAt) || s.TraceID != p.TraceID
	return r, nil
}
