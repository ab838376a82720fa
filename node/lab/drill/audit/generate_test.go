package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// memory is a source in memory.
type memory struct {
	fence  []Home
	stored []Row
}

func (m *memory) homes(_ context.Context, companies []string, each func(Home) error) error {
	for _, h := range m.fence {
		if slices.Contains(companies, h.Company) {
			if err := each(h); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) rows(_ context.Context, companies []string, each func(Row) error) error {
	for _, r := range m.stored {
		if slices.Contains(companies, r.Company) {
			if err := each(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// scenario is a correct run: its ledger and its database agree.
type scenario struct {
	lines []Line
	db    memory
	// acknowledged holds indexes into db.stored.
	acknowledged []int
	refused      []Claim
}

var (
	runBegin = time.Date(2026, 11, 2, 8, 30, 0, 0, time.UTC)
	runEnd   = runBegin.Add(30 * time.Minute)
	regions  = []string{"us-east", "eu-west", "ap-south"}
)

// v7 returns the same id for the same arguments, so that rapid can shrink a failure.
func v7(at time.Time, n int) string {
	id := uuid.UUID{6: 0x70, 8: 0x80}
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[14], id[15] = byte(n>>8), byte(n)
	return id.String()
}

// drawScenario draws a clean run of up to five punches.
func drawScenario(t *rapid.T) *scenario {
	s := &scenario{lines: []Line{{Begin: runBegin}}}
	for i, region := range regions {
		s.db.fence = append(s.db.fence, Home{Region: region, Company: fmt.Sprintf("company-%d", i), Epoch: 1})
	}
	n := rapid.IntRange(1, 5).Draw(t, "punches")
	seq := uint64(0)
	for i := range n {
		home := rapid.IntRange(0, 2).Draw(t, "home")
		claim := drawClaim(t, i, home)
		row := drawRow(t, claim, regions[home])
		outcome := "receipt"
		if i > 0 { // the first punch is acknowledged, so that every mutation has a victim
			outcome = rapid.SampledFrom([]string{"receipt", "two receipts", "refused", "gone", "unreceipted"}).Draw(t, "outcome")
		}
		seq++
		s.lines = append(s.lines, Line{Seq: seq, Intended: row.ReceivedAt, Entry: row.EntryRegion, Claim: new(claim)})
		switch outcome {
		case "two receipts":
			s.lines = append(s.lines, Line{Seq: seq, Receipt: receiptOf(row)}, Line{Seq: seq + 1, Intended: row.ReceivedAt, Claim: new(claim)})
			seq++
			replay := receiptOf(row)
			replay.Replayed = true
			s.lines = append(s.lines, Line{Seq: seq, Receipt: replay})
		case "receipt":
			s.lines = append(s.lines, Line{Seq: seq, Receipt: receiptOf(row)})
		case "refused":
			s.lines = append(s.lines, Line{Seq: seq, Failure: &Failure{Status: 400, Code: "invalid", Final: true}})
			s.refused = append(s.refused, claim)
			continue
		case "gone":
			s.lines = append(s.lines, Line{Seq: seq, Failure: &Failure{Code: "unavailable"}})
			continue
		}
		if outcome != "unreceipted" { // an unreceipted request has no outcome line: the generator died
			s.acknowledged = append(s.acknowledged, len(s.db.stored))
		}
		s.db.stored = append(s.db.stored, row)
	}
	s.addOtherRuns(t)
	s.lines = append(s.lines, Line{End: runEnd})
	return s
}

// addOtherRuns stores rows from before and after the run, of the first punch's company.
func (s *scenario) addOtherRuns(t *rapid.T) {
	for i := range rapid.IntRange(0, 2).Draw(t, "rows of other runs") {
		claim := drawClaim(t, 1000+i, 0)
		row := drawRow(t, claim, s.db.stored[0].Region)
		row.Company = s.db.stored[0].Company
		row.ReceivedAt = rapid.SampledFrom([]time.Time{runBegin.Add(-time.Hour), runEnd.Add(time.Hour)}).Draw(t, "other run")
		s.db.stored = append(s.db.stored, row)
	}
}

func drawClaim(t *rapid.T, i, home int) Claim {
	made := runBegin.Add(time.Duration(rapid.IntRange(0, 1799_000).Draw(t, "ms")) * time.Millisecond)
	c := Claim{
		Company: fmt.Sprintf("company-%d", home), Employee: fmt.Sprintf("e%d", i), ID: v7(made, i),
		Kind:   rapid.SampledFrom([]string{"in", "out", "auto"}).Draw(t, "kind"),
		Source: rapid.SampledFrom([]string{"", "gate-1"}).Draw(t, "source"),
		Note:   rapid.SampledFrom([]string{"", "späte Bahn"}).Draw(t, "note"),
	}
	if rapid.Bool().Draw(t, "sends at") {
		c.At = made.Add(-time.Duration(rapid.IntRange(0, 5_000_000).Draw(t, "device is behind by, in µs")) * time.Microsecond)
	}
	return c
}

func drawRow(t *rapid.T, c Claim, home string) Row {
	r := Row{
		Region: home, Company: c.Company, Employee: c.Employee, ID: c.ID, Kind: c.Kind,
		Day: idTime(c.ID).Format(time.DateOnly), PunchedAt: idTime(c.ID),
		Zone: "Europe/Berlin", UTCOffset: 3600,
		EntryRegion: rapid.SampledFrom(regions).Draw(t, "entry"),
		TraceID:     new("0af7651916cd43dd8448eb211c80319c"),
	}
	if !c.At.IsZero() {
		r.DeviceAt, r.PunchedAt = new(c.At), c.At
	}
	if c.Source != "" {
		r.Source = new(c.Source)
	}
	if c.Note != "" {
		r.Note = new(c.Note)
	}
	r.ReceivedAt = runBegin.Add(time.Duration(rapid.IntRange(0, 1_799_000_000).Draw(t, "received, in µs")) * time.Microsecond)
	r.RecordedAt = r.ReceivedAt.Add(3 * time.Millisecond)
	return r
}

func receiptOf(r Row) *Receipt {
	return &Receipt{
		Company: r.Company, Employee: r.Employee, ID: r.ID, Kind: r.Kind,
		PunchedAt: r.PunchedAt, ReceivedAt: r.ReceivedAt, RecordedAt: r.RecordedAt, Zone: r.Zone, UTCOffset: r.UTCOffset,
		HomeRegion: r.Region, EntryRegion: r.EntryRegion, Late: r.Late, Review: r.Review, TraceID: *r.TraceID,
	}
}

// ledger returns the lines as a file holds them.
func (s *scenario) ledger() *bytes.Buffer {
	var b bytes.Buffer
	for _, e := range s.lines {
		line, err := json.Marshal(e)
		if err != nil {
			panic(err) // only a faulty scenario can fail
		}
		b.Write(append(line, '\n'))
	}
	return &b
}

// receiptFor returns the first receipt for a row.
func (s *scenario) receiptFor(r *Row) *Receipt {
	for _, e := range s.lines {
		if e.Receipt != nil && e.Receipt.ID == r.ID && e.Receipt.Employee == r.Employee {
			return e.Receipt
		}
	}
	panic("row " + r.ID + " has no receipt")
}

// maxSeq returns the number of the last request.
func (s *scenario) maxSeq() (seq uint64) {
	for _, e := range s.lines {
		seq = max(seq, e.Seq)
	}
	return seq
}

// insert adds a line before the end line.
func (s *scenario) insert(l Line) {
	s.lines = slices.Insert(s.lines, len(s.lines)-1, l)
}
