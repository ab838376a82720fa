package audit

import (
	"context"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestACleanRunIsClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScenario(t)
		report, err := audit(context.Background(), s.ledger(), &s.db)
		if err != nil {
			t.Fatal(err)
		}
		if !report.Clean() {
			t.Fatalf("a clean run is not clean:\n%s", &report)
		}
		if report.Acknowledged != len(s.acknowledged) || report.Refused != len(s.refused) {
			t.Fatalf("acknowledged %d, refused %d, want %d and %d", report.Acknowledged, report.Refused, len(s.acknowledged), len(s.refused))
		}
		if report.Sent != report.Acknowledged+report.Refused+report.Unresolved {
			t.Fatalf("the parts do not add up:\n%s", &report)
		}
		if report.Rows+report.Ignored != len(s.db.stored) || report.Rows != report.Acknowledged+report.Unreceipted {
			t.Fatalf("%d rows are stored, the report has:\n%s", len(s.db.stored), &report)
		}
	})
}

// mutation damages a clean run in one place. victim is an acknowledged row.
type mutation struct {
	name   string
	fault  Fault
	mutate func(s *scenario, victim *Row)
}

func onRow(name string, change func(*Row)) mutation {
	return mutation{"the row's " + name, Altered, func(_ *scenario, v *Row) { change(v) }}
}

func onReceipt(name string, change func(*Receipt)) mutation {
	return mutation{"the receipt's " + name, Altered, func(s *scenario, v *Row) { change(s.receiptFor(v)) }}
}

var mutations = []mutation{
	{"a row is gone", Lost, func(s *scenario, v *Row) { v.Company = "no-company" }},
	{"a row is there twice", Doubled, func(s *scenario, v *Row) { s.db.stored = append(s.db.stored, *v) }},
	{"a row is in a second region", Doubled, func(s *scenario, v *Row) { s.db.stored = append(s.db.stored, elsewhere(*v)) }},
	{"a row is under a second day", Doubled, func(s *scenario, v *Row) {
		twin := *v
		twin.Day = "2026-11-03"
		s.db.stored = append(s.db.stored, twin)
	}},
	{"a second receipt of another commit", Doubled, func(s *scenario, v *Row) {
		claim := claimOf(s, v)
		other := *s.receiptFor(v)
		other.RecordedAt = other.RecordedAt.Add(time.Microsecond)
		s.insert(Line{Seq: s.maxSeq() + 1, Intended: runBegin, Claim: &claim})
		s.insert(Line{Seq: s.maxSeq(), Receipt: &other})
	}},
	{"the row is in another region than the home", WrongRegion, func(s *scenario, v *Row) { *v = elsewhere(*v) }},
	{"the home is another one", WrongRegion, func(s *scenario, v *Row) {
		h := homeOf(s, v)
		h.Region, h.Epoch = elsewhere(*v).Region, 2
	}},
	{"the home is there twice", WrongRegion, func(s *scenario, v *Row) {
		s.db.fence = append(s.db.fence, Home{Region: elsewhere(*v).Region, Company: v.Company, Epoch: 2})
	}},
	{"a row without a request", Unknown, func(s *scenario, v *Row) {
		unknown := *v
		unknown.ID = v7(runBegin, 4711)
		s.db.stored = append(s.db.stored, unknown)
	}},
	{"a row with another employee", Unknown, func(s *scenario, v *Row) { v.Employee = "e-other" }},
	{"a refused punch is stored", Contradicted, func(s *scenario, v *Row) {
		seq := s.maxSeq() + 1
		claim := claimOf(s, v)
		claim.Employee = "refused"
		row := *v
		row.Employee = "refused"
		s.insert(Line{Seq: seq, Intended: runBegin, Claim: &claim})
		s.insert(Line{Seq: seq, Failure: &Failure{Status: 403, Code: "forbidden", Final: true}})
		s.db.stored = append(s.db.stored, row)
	}},
	onRow("kind", func(r *Row) { r.Kind = "break_end" }),
	onRow("day", func(r *Row) { r.Day = "2026-11-01" }),
	onRow("device time", func(r *Row) {
		if r.DeviceAt == nil {
			r.DeviceAt = new(r.PunchedAt)
		} else {
			r.DeviceAt = nil
		}
	}),
	onRow("time of the punch", func(r *Row) { r.PunchedAt = r.PunchedAt.Add(time.Microsecond) }),
	onRow("receive time", func(r *Row) { r.ReceivedAt = r.ReceivedAt.Add(time.Microsecond) }),
	onRow("recording time", func(r *Row) { r.RecordedAt = r.RecordedAt.Add(time.Microsecond) }),
	onRow("zone", func(r *Row) { r.Zone = "UTC" }),
	onRow("offset", func(r *Row) { r.UTCOffset++ }),
	onRow("entry region", func(r *Row) { r.EntryRegion += "x" }),
	onRow("source", func(r *Row) { r.Source = new("gate-2") }),
	onRow("source, empty instead of absent", func(r *Row) { r.Source = new("") }),
	onRow("note", func(r *Row) { r.Note = new("späte Bahn ") }),
	onRow("mark late", func(r *Row) { r.Late = !r.Late }),
	onRow("mark review", func(r *Row) { r.Review = !r.Review }),
	onRow("trace", func(r *Row) { r.TraceID = nil }),
	onReceipt("company", func(r *Receipt) { r.Company = "company-9" }),
	onReceipt("employee", func(r *Receipt) { r.Employee = "e-other" }),
	onReceipt("id", func(r *Receipt) { r.ID = v7(runBegin, 4711) }),
	onReceipt("kind", func(r *Receipt) { r.Kind = "break_end" }),
	onReceipt("time of the punch", func(r *Receipt) { r.PunchedAt = r.PunchedAt.Add(time.Microsecond) }),
	onReceipt("receive time", func(r *Receipt) { r.ReceivedAt = r.ReceivedAt.Add(time.Microsecond) }),
	onReceipt("recording time", func(r *Receipt) { r.RecordedAt = r.RecordedAt.Add(time.Microsecond) }),
	onReceipt("zone", func(r *Receipt) { r.Zone = "UTC" }),
	onReceipt("offset", func(r *Receipt) { r.UTCOffset++ }),
	onReceipt("entry region", func(r *Receipt) { r.EntryRegion += "x" }),
	onReceipt("home region", func(r *Receipt) { r.HomeRegion += "x" }),
	onReceipt("mark late", func(r *Receipt) { r.Late = !r.Late }),
	onReceipt("mark review", func(r *Receipt) { r.Review = !r.Review }),
	onReceipt("trace", func(r *Receipt) { r.TraceID = "" }),
}

func elsewhere(r Row) Row {
	for _, other := range regions {
		if other != r.Region {
			r.Region = other
			break
		}
	}
	return r
}

func homeOf(s *scenario, r *Row) *Home {
	for i := range s.db.fence {
		if s.db.fence[i].Company == r.Company {
			return &s.db.fence[i]
		}
	}
	panic("no home for " + r.Company)
}

func claimOf(s *scenario, r *Row) Claim {
	for _, e := range s.lines {
		if e.Claim != nil && e.Claim.ID == r.ID && e.Claim.Employee == r.Employee {
			return *e.Claim
		}
	}
	panic("no claim for " + r.ID)
}

func TestEveryMutationIsCaught(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				s := drawScenario(t)
				victim := rapid.SampledFrom(s.acknowledged).Draw(t, "victim")
				m.mutate(s, &s.db.stored[victim])
				report, err := audit(context.Background(), s.ledger(), &s.db)
				if err != nil {
					t.Fatal(err)
				}
				if report.Clean() || *report.count(m.fault) == 0 {
					t.Fatalf("%s: want %s, have:\n%s", m.name, m.fault, &report)
				}
				if !strings.Contains(report.String(), string(m.fault)) {
					t.Fatalf("the report does not show the finding:\n%s", &report)
				}
			})
		})
	}
}

func TestMovedCompanies(t *testing.T) {
	for _, c := range []struct {
		name  string
		home  Home
		clean bool
	}{
		{"moved, and the row came along", Home{Region: "us-east", Epoch: 2}, true},
		{"is moving, and the row is still there", Home{Region: "eu-west", MovingFrom: "us-east", Epoch: 2}, true},
		{"moved, and the row stayed behind", Home{Region: "eu-west", Epoch: 2}, false},
		{"is moving between two other regions", Home{Region: "eu-west", MovingFrom: "ap-south", Epoch: 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				claim := drawClaim(t, 1, 0)
				row := drawRow(t, claim, "us-east")
				receipt := receiptOf(row)
				receipt.HomeRegion = "ap-south" // the home at the time of the receipt
				c.home.Company = claim.Company
				s := &scenario{
					lines: []Line{{Begin: runBegin}, {Seq: 1, Intended: runBegin, Claim: &claim}, {Seq: 1, Receipt: receipt}},
					db:    memory{fence: []Home{c.home}, stored: []Row{row}},
				}
				report, err := audit(context.Background(), s.ledger(), &s.db)
				if err != nil || report.Clean() != c.clean {
					t.Fatalf("clean is %t (%v), want %t:\n%s", report.Clean(), err, c.clean, &report)
				}
			})
		})
	}
}

// TestOneIdentityWithTwoClaims sends a second claim under a used identity. Another source is a replay, another kind is
// a conflict. The row must hold the first claim in full.
func TestOneIdentityWithTwoClaims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claim := drawClaim(t, 1, 0)
		row := drawRow(t, claim, "us-east")
		renamed, other := claim, claim
		renamed.Source, renamed.Note = "renamed", "another note"
		other.Kind = "break_end"
		if claim.Kind == other.Kind {
			other.Kind = "in"
		}
		fresh, replayed := receiptOf(row), receiptOf(row)
		fresh.Replayed, replayed.Replayed = false, true
		refusal := &Failure{Status: 409, Code: "conflict", Final: true}
		foreign := row
		foreign.Note = new("of neither claim")
		for _, c := range []struct {
			name    string
			second  Claim
			answer  Line
			stored  Row
			altered int
		}{
			{"another source, replayed", renamed, Line{Receipt: replayed}, row, 0},
			{"another source, answered as new", renamed, Line{Receipt: fresh}, row, 1},
			{"another kind, refused", other, Line{Failure: refusal}, row, 0},
			{"another kind, replayed", other, Line{Receipt: replayed}, row, 1},
			{"another source, and a row of neither claim", renamed, Line{Receipt: replayed}, foreign, 1},
		} {
			c.answer.Seq = 2
			s := &scenario{
				lines: []Line{
					{Begin: runBegin},
					{Seq: 1, Intended: runBegin, Claim: &claim}, {Seq: 1, Receipt: fresh},
					{Seq: 2, Intended: runBegin, Claim: &c.second}, c.answer,
				},
				db: memory{fence: []Home{{Region: "us-east", Company: claim.Company, Epoch: 1}}, stored: []Row{c.stored}},
			}
			report, err := audit(context.Background(), s.ledger(), &s.db)
			if err != nil || report.Altered != c.altered || report.Clean() != (c.altered == 0) || report.Sent != 1 || report.Acknowledged != 1 {
				t.Fatalf("%s: want %d altered (%v):\n%s", c.name, c.altered, err, &report)
			}
		}
	})
}

func TestVerdict(t *testing.T) {
	if err := (&Report{}).Verdict(); err != ErrNoEvidence {
		t.Errorf("a report without a receipt: %v, want %v", err, ErrNoEvidence)
	}
	if err := (&Report{Acknowledged: 1}).Verdict(); err != nil {
		t.Errorf("a clean report: %v", err)
	}
	for _, f := range faults {
		r := &Report{Acknowledged: 1}
		*r.count(f) = 1
		if err := r.Verdict(); err != ErrNotClean {
			t.Errorf("a report with one %s: %v, want %v", f, err, ErrNotClean)
		}
	}
}
