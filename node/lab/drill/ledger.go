package drill

import (
	"errors"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/punch"
)

// Ledger writes the product's requests and answers into an audit's ledger. It is a load.Journal.
type Ledger struct{ lines *audit.Ledger }

// CreateLedger starts a ledger in a new file.
func CreateLedger(path string) (*Ledger, error) {
	lines, err := audit.Create(path)
	if err != nil {
		return nil, err
	}
	return &Ledger{lines}, nil
}

// Intend implements load.Journal.
func (l *Ledger) Intend(intended time.Time, entryRegion string, r punch.Request) (uint64, error) {
	claim := audit.Claim{
		Company: r.Company, Employee: r.Employee, ID: r.ID.String(), Kind: string(r.Kind), Source: r.Source, Note: r.Note,
	}
	if !r.At.IsZero() {
		claim.At = r.At.UTC().Truncate(time.Microsecond)
	}
	return l.lines.Intend(intended, entryRegion, claim)
}

// Settle implements load.Journal.
func (l *Ledger) Settle(seq uint64, r punch.Receipt, err error) error {
	if err != nil {
		return l.lines.Failure(seq, failure(err))
	}
	return l.lines.Receipt(seq, &audit.Receipt{
		Company: r.Company, Employee: r.Employee, ID: r.ID.String(), Kind: string(r.Kind),
		PunchedAt: r.PunchedAt, ReceivedAt: r.ReceivedAt, RecordedAt: r.RecordedAt,
		Zone: r.Zone, UTCOffset: r.UTCOffset, HomeRegion: r.HomeRegion, EntryRegion: r.EntryRegion,
		Late: r.Late, Review: r.NeedsReview, TraceID: r.TraceID, Replayed: r.Replayed,
	})
}

func failure(err error) *audit.Failure {
	var e *client.Error
	if !errors.As(err, &e) {
		return &audit.Failure{Code: string(punch.Unavailable), Detail: err.Error()}
	}
	return &audit.Failure{Status: e.Status, Code: string(e.Code), Final: e.Final, Detail: e.Error(), Attempts: e.Attempts}
}

// Close writes the end of the run and closes the file.
func (l *Ledger) Close() error { return l.lines.Close() }
