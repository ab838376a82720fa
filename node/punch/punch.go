// Package punch is the domain: punches, receipts, refusals, and the rules that they obey. It does no I/O and knows
// neither HTTP nor SQL.
//
// # Identity
//
// A punch is identified by company, employee and id (Key). The caller makes the id once, a UUID of version 7, and
// keeps it over all retries. The database stores one row for an identity, whichever node receives the retries.
//
// # The same punch
//
// Two requests with one identity are the same punch when they agree on everything that matters for pay: the kind and
// the instant (Stored.Same). Such a request gets the receipt of the stored row. Source and note do not count, because
// a renamed terminal may repeat an old punch. The stored row keeps the source and the note of the first request. A
// request with another kind or instant is refused with Conflict.
//
// # Fingerprint
//
// Each row also stores a digest of everything that its caller sent (Fingerprint). No decision of this build depends on
// it. Nodes of earlier builds compare it, so its encoding must never change.
//
// # Final
//
// A refusal is final when the same request would be refused for ever (Code.Final). The device then sets the punch aside
// and shows it to a person. A device keeps the punch after any other error and sends it again with the same id. An
// unknown failure is never final, because a lost punch is lost pay.
package punch

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Kind says what the employee did.
type Kind string

// The kinds of punch. Auto leaves it to payroll to derive whether the employee came or went.
const (
	In         Kind = "in"
	Out        Kind = "out"
	BreakStart Kind = "break_start"
	BreakEnd   Kind = "break_end"
	Auto       Kind = "auto"
)

// Kinds lists every kind in the order of the API's document.
var Kinds = []Kind{In, Out, BreakStart, BreakEnd, Auto}

// Punch is one clock-in event on its way to the database. The caller sent the fields of Request. Punchclock added
// Stamp and Route.
type Punch struct {
	Request
	Stamp
	Route
}

// Request is the caller's part of a punch. Identity, sameness and fingerprint depend on it alone, so a retry through
// another node is still the same punch.
type Request struct {
	Company  string
	Employee string
	ID       ID
	Kind     Kind
	// At is the device's time, zero when the caller sent none.
	At     time.Time
	Source string // name of the terminal or program that recorded the punch; may be empty
	Note   string // free text; may be empty
}

// Stamp is added by the entry node, once, when the request arrives.
type Stamp struct {
	ReceivedAt  time.Time // by the entry node's clock, whole microseconds
	EntryRegion string
	TraceID     string // 32 hex digits, empty when the request had no trace
	Late        bool   // older than LateAfter when it arrived
	NeedsReview bool   // so old that the device's clock must have been wrong
}

// Route is the home under which the punch was dispatched. The database stores the punch only while the company still
// has that home.
type Route struct {
	HomeRegion string
	Epoch      int64
	Zone       string // IANA name of the company's time zone
	UTCOffset  int32  // seconds east of UTC in Zone at PunchedAt
}

// Key identifies a punch. Ids are unique per employee, not globally.
type Key struct {
	Company  string
	Employee string
	ID       ID
}

// Key returns the identity of the punch.
func (r *Request) Key() Key { return Key{Company: r.Company, Employee: r.Employee, ID: r.ID} }

// PunchedAt returns when the employee punched: the device's time, or the time inside the id when the device sent none.
// Whole microseconds, UTC.
func (r *Request) PunchedAt() time.Time {
	if r.At.IsZero() {
		return r.ID.Time()
	}
	return Microseconds(r.At)
}

// Size approximates the memory that a waiting punch holds, in bytes.
func (p *Punch) Size() int {
	// 512 covers the fixed fields, the queue entry and the caller's wait.
	const fixed = 512
	return fixed + len(p.Company) + len(p.Employee) + len(p.Source) + len(p.Note) + len(p.Zone)
}

// Fingerprint is a digest of everything that a caller sent under one Key.
type Fingerprint [16]byte

// Fingerprint digests the request without its key: SHA-256 over length-prefixed fields, cut to 128 bits. Rows store it,
// and nodes of earlier builds refuse a retry whose fingerprint differs from the stored one. Its encoding must therefore
// never change.
func (r *Request) Fingerprint() Fingerprint {
	var scratch [256]byte
	b := scratch[:0]
	b = appendField(b, string(r.Kind))
	if r.At.IsZero() {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.BigEndian.AppendUint64(b, uint64(r.At.UnixMicro()))
	}
	b = appendField(b, r.Source)
	b = appendField(b, r.Note)
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
	NeedsReview bool
	TraceID     string
	// Replayed is set when an earlier request had committed the punch.
	Replayed bool
}

// Receipt returns the receipt of p as committed at recordedAt.
func (p *Punch) Receipt(recordedAt time.Time) Receipt {
	return Receipt{
		Company: p.Company, Employee: p.Employee, ID: p.ID, Kind: p.Kind,
		PunchedAt: p.PunchedAt(), ReceivedAt: p.ReceivedAt, RecordedAt: recordedAt.UTC(),
		Zone: p.Zone, UTCOffset: p.UTCOffset,
		HomeRegion: p.HomeRegion, EntryRegion: p.EntryRegion,
		Late: p.Late, NeedsReview: p.NeedsReview, TraceID: p.TraceID,
	}
}

// Recorder records a punch and returns its receipt once the punch is committed. Errors are *Error; any other error
// means Unavailable. After an error that is not final, the punch may or may not be committed. Recording the same punch
// again settles it.
type Recorder interface {
	Record(ctx context.Context, p Punch) (Receipt, error)
}

// Outcome is the result of one punch of a batch: a receipt, or an error.
type Outcome struct {
	Receipt Receipt
	Err     error
}

// Microseconds cuts t to the precision of the database.
func Microseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Item is a punch in a batch together with the context of its own request. Deadline and trace belong to the request,
// not to the batch.
type Item struct {
	Ctx context.Context //nolint:containedctx // a batch carries many requests
	Punch
}

// Stored is the content of the row under a key. Its Replayed says nothing: Resolve sets it for one request.
type Stored struct {
	Receipt
}

// Same reports whether the row and r are one punch. They must have the same identity, which is not compared.
//
// The columns of the row decide, never its fingerprint. So a row of an earlier build is not taken for another punch. The
// time of the id means the same whether the caller sent it as the time or not.
func (s *Stored) Same(r *Request) bool { return s.Kind == r.Kind && s.PunchedAt.Equal(r.PunchedAt()) }

// Resolve answers a request from the row under its key: the receipt of the row, or Conflict when the row is another
// punch.
func (s *Stored) Resolve(p *Punch) (Receipt, error) {
	if !s.Same(&p.Request) {
		return Receipt{}, Errorf(Conflict, "this id is already used for another punch of the employee: %q at %s, recorded at %s; use a new id for each punch",
			s.Kind, s.PunchedAt.Format(time.RFC3339Nano), s.RecordedAt.Format(time.RFC3339))
	}
	r := s.Receipt
	// A row with the very stamp of this request was written for it, even if the answer of the writing statement was lost.
	r.Replayed = !s.ReceivedAt.Equal(p.ReceivedAt) || s.TraceID != p.TraceID
	return r, nil
}
