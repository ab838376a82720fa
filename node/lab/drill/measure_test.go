package drill

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/lab/load"
)

var (
	runBegin = time.Date(2026, 11, 2, 8, 30, 0, 0, time.UTC)
	regions  = []string{"us-east", "eu-west", "ap-south"}
)

var errGivenUp = errors.New("given up")

// at returns a time after the begin of an invented drill.
func at(s float64) time.Time { return runBegin.Add(time.Duration(s * float64(time.Second))) }

func settled(due, end float64) load.Outcome {
	return load.Outcome{Home: "us-east", Entry: "eu-west", Due: at(due), Settled: at(end), Received: at(due), Attempts: 1}
}

func givenUp(due, end float64) load.Outcome {
	o := settled(due, end)
	o.Err, o.Attempts = errGivenUp, 3
	return o
}

func TestLongestGap(t *testing.T) {
	for _, c := range []struct {
		name     string
		outcomes []load.Outcome
		from     float64
		took     float64
		open     bool
	}{
		{"no punch was sent", nil, 0, 0, false},
		{"before the break", []load.Outcome{settled(1, 4), settled(10.5, 10.6)}, 10.5, 0.1, false},
		{"no punch waited between two punches", []load.Outcome{settled(10.1, 10.2), settled(19, 19.3)}, 19, 0.3, false},
		{"a punch waited since it was due", []load.Outcome{settled(10, 10.1), settled(11, 15), settled(14, 15.1)}, 11, 4, false},
		{"a punch waited since before the last receipt", []load.Outcome{settled(10, 15), settled(10.5, 11)}, 11, 4, false},
		{"a gap that began before the break", []load.Outcome{settled(8, 12)}, 8, 4, false},
		{"a punch that is given up is not served", []load.Outcome{settled(10, 10.1), givenUp(11, 13), settled(14, 14.2)}, 11, 3.2, false},
		{"never served again", []load.Outcome{settled(10, 10.1), givenUp(11, 56)}, 11, 45, true},
		{"never served again after a longer wait", []load.Outcome{settled(10, 30), givenUp(31, 36)}, 31, 5, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			gap := longestGap(c.outcomes, at(10))
			if math.Abs(gap.Took.Seconds()-c.took) > 1e-6 || gap.Open != c.open || (gap.Took > 0 && !gap.From.Equal(at(c.from))) {
				t.Errorf("%s from %s, open %t; want %gs from %s, open %t", gap.Took, gap.From, gap.Open, c.took, at(c.from), c.open)
			}
		})
	}
}

// TestGapIsNoLongerThanTheSlowest holds that no gap is longer than the slowest punch waited, if all are acknowledged.
func TestGapIsNoLongerThanTheSlowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []load.Outcome
		slowest := time.Duration(0)
		for range rapid.IntRange(1, 30).Draw(t, "punches") {
			due := rapid.Float64Range(10, 60).Draw(t, "due")
			o := settled(due, due+rapid.Float64Range(0, 20).Draw(t, "took"))
			slowest = max(slowest, o.Settled.Sub(o.Due))
			all = append(all, o)
		}
		if gap := longestGap(all, at(10)); gap.Took > slowest || gap.Open {
			t.Fatalf("a gap of %s, and the slowest punch took %s", gap.Took, slowest)
		}
	})
}

func TestWrongTimes(t *testing.T) {
	received := func(due, received float64) load.Outcome {
		o := settled(due, due+1)
		o.Received = at(received)
		return o
	}
	m := Moments{Begin: at(0), Breaking: at(5), Broken: at(10)}
	late := settled(20, 100) // retried for long, and received at the right time
	late.Received = at(95)
	all := []load.Outcome{late, givenUp(30, 75), received(9, 609), received(11, 611), received(11, -589), received(12, 12.5)}
	if n := wrongTimes(all, &m); n != 2 {
		t.Errorf("%d wrong times, want the 2 of punches that were due after the break", n)
	}
	if n := wrongTimes(all, &Moments{}); n != 0 {
		t.Errorf("%d wrong times without a break", n)
	}
}

func TestFigures(t *testing.T) {
	var all []load.Outcome
	for i := range 200 {
		all = append(all, settled(0, float64(i+1)/1000))
	}
	all[7] = givenUp(0, 45)
	f := figuresOf(all)
	want := Figures{Sent: 200, Failed: 1, Retries: 2, P50: 101 * time.Millisecond, P99: 199 * time.Millisecond, Max: 45 * time.Second}
	if f != want {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
}

// drilled returns the outcome of a drill with three homes, one of which waited.
func drilled() *Outcome {
	o := &Outcome{
		Scenario: "kill-node", Engine: "cockroach v1", Nodes: 6, Victim: "us-east", Rate: 100,
		Notes:   []string{"<b>not bold</b>"},
		Moments: Moments{Begin: at(0), Breaking: at(10), Broken: at(10), Healing: at(20), Healed: at(27), End: at(40)},
		Ledger:  &audit.Report{Sent: 3, Acknowledged: 3},
	}
	all := []load.Outcome{settled(11, 13.5)}
	for _, home := range regions {
		for _, entry := range regions {
			for _, due := range []float64{1, 15, 30} {
				own := settled(due, due+0.2)
				own.Home, own.Entry = home, entry
				all = append(all, own)
			}
		}
	}
	o.Recovery = Recovery{LossSeen: new(5 * time.Second), MembersBack: new(6 * time.Second), LeasesBack: new(50 * time.Second)}
	o.Homes, o.Gaps = homeFigures(all, regions, &o.Moments), gaps(all, regions, regions, &o.Moments)
	o.Seconds = timeline(all, regions, at(0))
	return o
}

// stampedes are the bounds of an overload.
var stampedes = Bounds{Goodput: 0.9, Calm: 5 * time.Second}

func overloads(goodput float64, recovered time.Duration) []Overload {
	return []Overload{{Name: "a stampede", Capacity: 1000, Factor: 2, Goodput: goodput, Recovered: &recovered}}
}

func TestJudge(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		name   string
		bounds Bounds
		change func(*Outcome)
		fails  string
	}{
		{"all holds", Bounds{NoneFailed: true, P99: 3 * second, Gap: 3 * second, VictimGap: 3 * second, MajorityGap: 3 * second, OthersP99: second}, nil, ""},
		{"a punch failed", Bounds{NoneFailed: true}, func(o *Outcome) { o.Failed = 1 }, "punches that failed"},
		{"a failed punch without a bound", Bounds{}, func(o *Outcome) { o.Failed = 1 }, ""},
		{"a punch was not sent", Bounds{}, func(o *Outcome) { o.Dropped = 1 }, "not sent"},
		{"the victim is slow", Bounds{P99: 2 * second}, nil, "p99 of each home"},
		{"only the victim is slow", Bounds{OthersP99: second}, nil, ""},
		{"a gap", Bounds{Gap: 2 * second}, nil, "every home through every entry"},
		{"a gap of the victim", Bounds{VictimGap: 2 * second}, nil, "the victim's home"},
		{"a gap of the majority", Bounds{MajorityGap: 2 * second}, nil, "majority"},
		{"no recovery", Bounds{Gap: 50 * second}, func(o *Outcome) { o.Gaps[2].Open = true }, "never"},
		{"no recovery, and no bound on it", Bounds{}, func(o *Outcome) { o.Gaps[2].Open = true }, "served at the end"},
		{"a home without a receipt in a phase", Bounds{}, func(o *Outcome) { o.Homes[4].Failed = o.Homes[4].Sent }, "homes and phases without a receipt"},
		{"a home without a punch in a phase", Bounds{}, func(o *Outcome) { o.Homes[5].Figures = Figures{} }, "homes and phases without a receipt"},
		{"an entry without a receipt", Bounds{}, func(o *Outcome) { o.Gaps[3].Acknowledged = 0 }, "homes and entries without a receipt"},
		{"a wrong receive time", Bounds{}, func(o *Outcome) { o.WrongTimes = 1 }, "wrong receive time"},
		{"a refusal for good", Bounds{}, func(o *Outcome) { o.Ledger.Refused = 1 }, "refused for good"},
		{"no other home to checkBounds", Bounds{OthersP99: second}, func(o *Outcome) { o.Homes = o.Homes[:3] }, "the other homes"},
		{"no company has its home in the victim", Bounds{VictimGap: 9 * second}, func(o *Outcome) { o.Gaps = o.Gaps[3:] }, "the victim's home"},
		{"the loss is seen", Bounds{LossSeen: 8 * second}, nil, ""},
		{"the loss is seen late", Bounds{LossSeen: 4 * second}, nil, "miss the node"},
		{"the loss is never seen", Bounds{LossSeen: 8 * second}, func(o *Outcome) { o.Recovery.LossSeen = nil }, "miss the node"},
		{"members are never back", Bounds{}, func(o *Outcome) { o.Recovery.MembersBack = nil }, "know each other"},
		{"members are back late", Bounds{}, func(o *Outcome) { o.Recovery.MembersBack = new(31 * second) }, "know each other"},
		{"leases are never back", Bounds{}, func(o *Outcome) { o.Recovery.LeasesBack = nil }, "leases"},
		{"leases are back late", Bounds{}, func(o *Outcome) { o.Recovery.LeasesBack = new(91 * second) }, "leases"},
		{"there are no leases", Bounds{}, func(o *Outcome) { o.Engine, o.Recovery.LeasesBack = "postgres 15", nil }, ""},
		{"outboxes that emptied", Bounds{}, func(o *Outcome) { o.Outboxes = &Outboxes{Kept: 3, Flushed: 3} }, ""},
		{"outboxes that kept nothing", Bounds{}, func(o *Outcome) { o.Outboxes = &Outboxes{} }, "devices kept"},
		{"outboxes that may keep nothing", Bounds{}, func(o *Outcome) { o.Engine, o.Outboxes = "postgres 15", &Outboxes{} }, ""},
		{"an outbox that is not empty", Bounds{}, func(o *Outcome) { o.Outboxes = &Outboxes{Kept: 3, Flushed: 2, Waiting: 1} }, "wait in an outbox"},
		{"a quarantine that is not empty", Bounds{}, func(o *Outcome) { o.Outboxes = &Outboxes{Kept: 3, Flushed: 2, Refused: 1} }, "in a quarantine"},
		{"an outbox that forgot beside a plain client", Bounds{}, func(o *Outcome) {
			o.Outboxes, o.Ledger.Unresolved = &Outboxes{Kept: 3, Flushed: 2}, 3
			o.Plain = &Plain{Presses: load.Presses{Sent: 7, Acknowledged: 5}}
		}, "without an answer"},
		{"an outbox that forgot", Bounds{}, func(o *Outcome) { o.Outboxes, o.Ledger.Unresolved = &Outboxes{Kept: 3, Flushed: 2}, 1 }, "without an answer"},
		{"an overload that was carried", stampedes, func(o *Outcome) { o.Overloads = overloads(0.9, 5*second) }, ""},
		{"a collapse under overload", stampedes, func(o *Outcome) { o.Overloads = overloads(0.89, second) }, "goodput, a stampede: 0.89"},
		{"a slow recovery", stampedes, func(o *Outcome) { o.Overloads = overloads(1, 6*second) }, "p99 is usual after the overload, a stampede: 6s"},
		{"no recovery from an overload", stampedes, func(o *Outcome) {
			o.Overloads = overloads(1, second)
			o.Overloads[0].Recovered = nil
		}, "a stampede: not seen"},
		{"an overload that was not offered", stampedes, func(o *Outcome) {
			o.Overloads = overloads(1, second)
			o.Overloads[0].Dropped = 1
		}, "not sent, a stampede"},
		{"a generator that was late", stampedes, func(o *Outcome) {
			o.Overloads = overloads(1, second)
			o.Overloads[0].Late = second
		}, "lateness of the generator at p99, a stampede: 1s"},
		{"no overload", stampedes, nil, "goodput under overload"},
		{"it did not come to its end", Bounds{}, func(o *Outcome) { o.Error = "interrupted" }, "interrupted"},
		{"a lost punch", Bounds{}, func(o *Outcome) { o.Ledger.Lost = 1 }, audit.ErrNotClean.Error()},
		{"no evidence", Bounds{}, func(o *Outcome) { o.Ledger.Acknowledged = 0 }, audit.ErrNoEvidence.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := drilled()
			if c.change != nil {
				c.change(o)
			}
			o.checkBounds(c.bounds, 90*second)
			err := o.Verdict()
			if (err != nil) != (c.fails != "") || (err != nil && !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("verdict: %v, want one with %q", err, c.fails)
			}
			if passed := strings.Contains(o.String(), "PASSED"); passed != (err == nil) {
				t.Errorf("the summary says passed: %t, the verdict: %v", passed, err)
			}
		})
	}
}

func TestPageStandsAlone(t *testing.T) {
	o := drilled()
	o.Ledger.Refused, o.Dropped, o.Retries = 4711, 4712, 4713
	o.Outboxes = &Outboxes{Devices: 3, Kept: 4714, Flushed: 4714, Oldest: 63 * time.Second, Emptied: new(17 * time.Second)}
	o.checkBounds(Bounds{Gap: time.Second}, time.Minute)
	path := filepath.Join(t.TempDir(), "index.html")
	if err := writePage(path, o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, want := range []string{"kill-node", "failed", "&lt;b&gt;not bold", "<svg", ">break<", ">heal<", ">healed<", "us-east", "FAILS", "2.5s", "4711", "4712", "4713", "4714", "1m3s", "17s"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, not := range []string{"http://", "https://", "<script", "NaN", "Inf", "<b>"} {
		if strings.Contains(page, not) {
			t.Errorf("the page has %q", not)
		}
	}
}

// TestAnUnfinishedDrillIsShown shows an outcome without measurements and without an audit.
func TestAnUnfinishedDrillIsShown(t *testing.T) {
	o := &Outcome{Scenario: "kill-node", Error: "breaking: <no such node>", Moments: Moments{Begin: at(0)}}
	path := filepath.Join(t.TempDir(), "index.html")
	if err := writePage(path, o); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"failed", "did not come to its end", "breaking: &lt;no such node&gt;", "was not audited"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if text := o.String(); !strings.Contains(text, "FAILED") || !strings.Contains(text, "<no such node>") || strings.Contains(text, "lost") {
		t.Errorf("the summary says:\n%s", text)
	}
	if err := o.Verdict(); !errors.Is(err, ErrUnfinished) || !errors.Is(err, ErrNotAudited) {
		t.Errorf("its verdict: %v", err)
	}
}

// TestTimelineHoldsEveryPunch holds that each punch is in one second of its home.
func TestTimelineHoldsEveryPunch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []load.Outcome
		failed := 0
		for range rapid.IntRange(0, 40).Draw(t, "punches") {
			due := rapid.Float64Range(0, 60).Draw(t, "due")
			o := settled(due, due+rapid.Float64Range(0, 20).Draw(t, "took"))
			o.Home = rapid.SampledFrom(regions).Draw(t, "home")
			if rapid.Bool().Draw(t, "failed") {
				o.Err = errGivenUp
				failed++
			}
			all = append(all, o)
		}
		gotAcknowledged, gotFailed := 0, 0
		for _, s := range timeline(all, regions, at(0)) {
			for _, h := range s.Homes {
				gotAcknowledged += h.Acknowledged
				gotFailed += h.Failed
			}
		}
		if gotFailed != failed || gotAcknowledged != len(all)-failed {
			t.Fatalf("%d acknowledged and %d failed, want %d and %d", gotAcknowledged, gotFailed, len(all)-failed, failed)
		}
	})
}
