package client

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// Bounds on the bytes read of a response. A receipt takes about 600 bytes and a batch has at most 1,000 receipts. The
// bounds leave room for new fields.
const (
	maxReceiptBytes = 16 << 10
	maxBatchBytes   = 4 << 20
)

// wirePunch is the body of a request as openapi.yaml defines it.
type wirePunch struct {
	ID       string    `json:"id"`
	Employee string    `json:"employee"`
	Kind     string    `json:"kind"`
	At       time.Time `json:"at,omitzero"`
	Source   string    `json:"source,omitempty"`
	Note     string    `json:"note,omitempty"`
}

// wireReceipt is a receipt as openapi.yaml defines it. Unknown fields are ignored, because a device may be older than the
// service.
type wireReceipt struct {
	ID          string    `json:"id"`
	Company     string    `json:"company"`
	Employee    string    `json:"employee"`
	Kind        string    `json:"kind"`
	PunchedAt   time.Time `json:"punched_at"`
	ReceivedAt  time.Time `json:"received_at"`
	RecordedAt  time.Time `json:"recorded_at"`
	Zone        string    `json:"zone"`
	UTCOffset   string    `json:"utc_offset"` // such as "+02:00"
	HomeRegion  string    `json:"home_region"`
	EntryRegion string    `json:"entry_region"`
	Marks       []string  `json:"marks"`
	TraceID     string    `json:"trace_id"`
	Replayed    bool      `json:"replayed"`
}

// wireProblem is an error answer (RFC 9457) with the members of the API.
type wireProblem struct {
	Code       punch.Code `json:"code"`
	Final      *bool      `json:"final"`
	Field      string     `json:"field"`
	Title      string     `json:"title"`
	Detail     string     `json:"detail"`
	RetryAfter uint32     `json:"retry_after"` // seconds
	TraceID    string     `json:"trace_id"`
}

func toWire(r Request) wirePunch {
	w := wirePunch{ID: r.ID.String(), Employee: r.Employee, Kind: string(r.Kind), Source: r.Source, Note: r.Note}
	if !r.At.IsZero() {
		w.At = punch.Microseconds(r.At) // the service keeps microseconds, and the receipt must compare equal
	}
	return w
}

// JSON encodes the punch as the API takes it. It fails if JSON would change the content: the note must be valid UTF-8 and
// the year must have four digits.
func (r Request) JSON() ([]byte, error) { return json.Marshal(toWire(r)) }

func (w *wireReceipt) receipt() (punch.Receipt, error) {
	id, err := punch.ParseID(w.ID)
	if err != nil {
		return punch.Receipt{}, fmt.Errorf("receipt: id: %w", err)
	}
	offset, err := seconds(w.UTCOffset)
	if err != nil {
		return punch.Receipt{}, fmt.Errorf("receipt: utc_offset: %w", err)
	}
	if w.Employee == "" || w.RecordedAt.IsZero() || w.HomeRegion == "" {
		return punch.Receipt{}, errors.New("receipt: employee, recorded_at or home_region is missing")
	}
	return punch.Receipt{
		Company: w.Company, Employee: w.Employee, ID: id, Kind: punch.Kind(w.Kind),
		PunchedAt: w.PunchedAt.UTC(), ReceivedAt: w.ReceivedAt.UTC(), RecordedAt: w.RecordedAt.UTC(),
		Zone: w.Zone, UTCOffset: offset, HomeRegion: w.HomeRegion, EntryRegion: w.EntryRegion,
		Late: slices.Contains(w.Marks, "late"), NeedsReview: slices.Contains(w.Marks, "review"), TraceID: w.TraceID, Replayed: w.Replayed,
	}, nil
}

// seconds reads an offset such as "+02:00".
func seconds(offset string) (int32, error) {
	t, err := time.Parse("-07:00", offset)
	if err != nil {
		return 0, err
	}
	_, s := t.Zone()
	return int32(s), nil
}

// retryAfter is the wait that the document asks for.
func (p *wireProblem) retryAfter() time.Duration { return time.Duration(p.RetryAfter) * time.Second }

// apply copies the document into e, whose status is known. If status and document contradict each other, the error is not
// final: a kept punch is not lost.
func (p *wireProblem) apply(e *Error) {
	e.Code, e.Field, e.Detail, e.TraceID = p.Code, p.Field, cmp.Or(p.Detail, p.Title), p.TraceID
	final := p.Code.Final()
	if p.Final != nil {
		final = *p.Final // the service may know codes that this client does not
	}
	e.Final = final && mayBeFinal(e.Status)
}

// mayBeFinal reports whether a status is about a mistake of the caller that neither a retry nor a new token corrects.
func mayBeFinal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return status >= 400 && status < 500
	}
}

// receiptFor checks that w is the receipt of the punch with that identity. The receipt of another punch proves nothing.
func (w *wireReceipt) receiptFor(employee string, id punch.ID) (punch.Receipt, error) {
	receipt, err := w.receipt()
	if err == nil && (receipt.ID != id || receipt.Employee != employee) {
		err = fmt.Errorf("the receipt is for punch %s of employee %s", receipt.ID, receipt.Employee)
	}
	return receipt, err
}

// ParseReceipt reads the receipt of a punch from the body of an answer with status 200 or 201. It serves programs that
// send requests without a Client.
func ParseReceipt(body []byte, employee string, id punch.ID) (punch.Receipt, error) {
	var w wireReceipt
	if err := json.Unmarshal(body, &w); err != nil {
		return punch.Receipt{}, fmt.Errorf("the answer is not a receipt: %w", err)
	}
	return w.receiptFor(employee, id)
}
