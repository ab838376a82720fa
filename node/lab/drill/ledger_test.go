package drill

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/punch"
)

// TestTheLedgerHoldsEveryField writes a request with its error, and a request with its receipt, and reads them back.
func TestTheLedgerHoldsEveryField(t *testing.T) {
	path := newLedgerPath(t)
	ledger, err := CreateLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 2, 8, 30, 0, 1234567, time.FixedZone("", 3600))
	us := at.UTC().Truncate(time.Microsecond)
	request := punch.Request{Company: "acme", Employee: "e1", ID: punch.NewID(), Kind: punch.In, At: at, Source: "gate-1", Note: "späte Bahn\n\"x\""}
	refused, err := ledger.Intend(at, "us-east", request)
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Settle(refused, punch.Receipt{}, &client.Error{Status: 409, Code: punch.Conflict, Final: true, Attempts: 2}); err != nil {
		t.Fatal(err)
	}
	recorded, err := ledger.Intend(at, "us-east", request)
	if err != nil {
		t.Fatal(err)
	}
	receipt := punch.Receipt{
		Company: "acme", Employee: "e1", ID: request.ID, Kind: punch.In, PunchedAt: us, ReceivedAt: us.Add(1), RecordedAt: us.Add(2),
		Zone: "Europe/Berlin", UTCOffset: 3600, HomeRegion: "eu-west", EntryRegion: "us-east", Late: true, NeedsReview: true, TraceID: "feed", Replayed: true,
	}
	if err := ledger.Settle(recorded, receipt, nil); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []audit.Line
	if torn, err := audit.Read(bytes.NewReader(text), func(l audit.Line) error { lines = append(lines, l); return nil }); torn || err != nil || len(lines) != 6 {
		t.Fatalf("%d lines, torn %t, %v", len(lines), torn, err)
	}
	claim := audit.Claim{Company: "acme", Employee: "e1", ID: request.ID.String(), Kind: "in", At: us, Source: "gate-1", Note: request.Note}
	if l := lines[1]; l.Seq != refused || l.Entry != "us-east" || l.Claim == nil || *l.Claim != claim {
		t.Errorf("the intent reads back as %+v, %+v, want %+v", l, l.Claim, claim)
	}
	if f := lines[2].Failure; f == nil || f.Status != 409 || f.Code != "conflict" || !f.Final || f.Attempts != 2 {
		t.Errorf("the failure reads back as %+v", f)
	}
	want := audit.Receipt{
		Company: "acme", Employee: "e1", ID: request.ID.String(), Kind: "in", PunchedAt: us, ReceivedAt: us.Add(1), RecordedAt: us.Add(2),
		Zone: "Europe/Berlin", UTCOffset: 3600, HomeRegion: "eu-west", EntryRegion: "us-east", Late: true, Review: true, TraceID: "feed", Replayed: true,
	}
	if r := lines[4].Receipt; r == nil || *r != want {
		t.Errorf("the receipt reads back as %+v, want %+v", r, want)
	}
}
