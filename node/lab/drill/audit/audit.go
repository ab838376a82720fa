package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Row is a stored punch, as it stands in the table.
type Row struct {
	Region      string
	Company     string
	Day         string // YYYY-MM-DD
	Employee    string
	ID          string
	Kind        string
	DeviceAt    *time.Time // nil when the caller sent no time
	PunchedAt   time.Time
	ReceivedAt  time.Time
	RecordedAt  time.Time
	Zone        string
	UTCOffset   int32 // seconds east of UTC
	EntryRegion string
	Source      *string // nil when absent
	Note        *string // nil when absent
	Late        bool
	Review      bool
	TraceID     *string // nil when absent
}

// Home is a row of the fence. It says in which region a company's punches belong.
type Home struct {
	Region     string
	Company    string
	Epoch      int64
	MovingFrom string // the region that a move copies rows from; empty when there is no move
}

// source returns what is stored. Both methods should read one snapshot.
type source interface {
	homes(ctx context.Context, companies []string, each func(Home) error) error
	rows(ctx context.Context, companies []string, each func(Row) error) error
}

// identity is the key of a punch. Two punches with one identity are the same punch.
type identity struct{ company, employee, id string }

func (i identity) String() string { return i.company + "/" + i.employee + "/" + i.id }

// request is one request with its outcome, from the ledger.
type request struct {
	claim   Claim
	receipt *Receipt
	failure *Failure
}

// history is every request and row of one identity.
type history struct {
	requests []*request // in the order of their intents
	stored   int        // rows found
	faults   faultSet
}

func (h *history) acknowledged() bool {
	return slices.ContainsFunc(h.requests, func(r *request) bool { return r.receipt != nil })
}

// refused reports whether every request got a final refusal.
func (h *history) refused() bool {
	return !slices.ContainsFunc(h.requests, func(r *request) bool { return r.failure == nil || !r.failure.Final })
}

// conflict is the code of a request whose identity has another punch already.
const conflict = "conflict"

// refusedAs reports whether every request was refused with that code.
func (h *history) refusedAs(code string) bool {
	return !slices.ContainsFunc(h.requests, func(r *request) bool { return r.failure == nil || r.failure.Code != code })
}

// auditor gathers the evidence. It holds about 1 kB for each identity of the ledger, so a million punches take about 1
// GB. Rows are streamed.
type auditor struct {
	report     Report
	begin, end time.Time // of the run; end is zero when the ledger was not closed
	histories  map[identity]*history
	homes      map[string][]Home
}

// audit reads the whole ledger and then every row of the ledger's companies, and compares the two.
func audit(ctx context.Context, ledger io.Reader, stored source) (Report, error) {
	a := &auditor{histories: make(map[identity]*history), homes: make(map[string][]Home)}
	if err := a.readLedger(ledger); err != nil {
		return Report{}, err
	}
	companies := a.companies()
	err := stored.homes(ctx, companies, func(h Home) error {
		a.homes[h.Company] = append(a.homes[h.Company], h)
		return nil
	})
	if err != nil {
		return Report{}, fmt.Errorf("audit: homes: %w", err)
	}
	err = stored.rows(ctx, companies, func(r Row) error {
		a.row(&r)
		return nil
	})
	if err != nil {
		return Report{}, fmt.Errorf("audit: punches: %w", err)
	}
	a.conclude()
	return a.report, nil
}

func (a *auditor) readLedger(ledger io.Reader) error {
	requests := make(map[uint64]*request)
	torn, err := Read(ledger, func(e Line) error {
		switch {
		case !e.Begin.IsZero():
			a.begin = e.Begin
		case !e.End.IsZero():
			a.end = e.End
		case e.Claim != nil:
			return a.intent(requests, e)
		default:
			return outcome(requests, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if a.begin.IsZero() {
		return errors.New("ledger: the file is empty")
	}
	a.report.Torn = torn
	a.report.Requests = len(requests)
	return nil
}

func (a *auditor) intent(requests map[uint64]*request, e Line) error {
	if requests[e.Seq] != nil {
		return fmt.Errorf("ledger: request %d has two intents", e.Seq)
	}
	r := &request{claim: *e.Claim}
	requests[e.Seq] = r
	key := identity{e.Claim.Company, e.Claim.Employee, e.Claim.ID}
	h := a.histories[key]
	if h == nil {
		h = new(history)
		a.histories[key] = h
	}
	h.requests = append(h.requests, r)
	return nil
}

func outcome(requests map[uint64]*request, e Line) error {
	r := requests[e.Seq]
	switch {
	case r == nil:
		return fmt.Errorf("ledger: request %d has an outcome and no intent before it", e.Seq)
	case r.receipt != nil || r.failure != nil:
		return fmt.Errorf("ledger: request %d has two outcomes", e.Seq)
	}
	r.receipt, r.failure = e.Receipt, e.Failure
	return nil
}

func (a *auditor) companies() []string {
	set := make(map[string]struct{})
	for key := range a.histories {
		set[key.company] = struct{}{}
	}
	return slices.Sorted(maps.Keys(set))
}

// conclude counts the faults that need all rows, such as a missing row.
func (a *auditor) conclude() {
	for key, h := range a.histories {
		a.report.Sent++
		switch {
		case h.acknowledged():
			a.report.Acknowledged++
			a.checkReceipts(key, h)
			if h.stored == 0 {
				a.addFault(key, h, Lost, "acknowledged, but there is no row")
			}
		case h.refused():
			a.report.Refused++
		default:
			a.report.Unresolved++
			if h.stored > 0 {
				a.report.Unreceipted++
			}
		}
		if h.stored > 1 {
			a.addFault(key, h, Doubled, fmt.Sprintf("%d rows", h.stored))
		}
	}
	a.report.finish()
}

// addFault counts a fault once per identity, and keeps the first few as findings. h is nil for an identity that is not
// in the ledger.
func (a *auditor) addFault(key identity, h *history, f Fault, what string) {
	if h != nil {
		if h.faults.has(f) {
			return
		}
		h.faults.add(f)
	}
	a.report.add(f, key, what)
}
