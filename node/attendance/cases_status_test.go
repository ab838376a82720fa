package attendance_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
)

// TestStatusThroughADay folds one day at many instants.
func TestStatusThroughADay(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.punch(in, "2026-11-02 08:20")
	w.punch(breakStart, "2026-11-02 12:00")
	w.punch(breakEnd, "2026-11-02 12:30")
	w.punch(out, "2026-11-02 17:00")
	all := w.line.Punches
	for _, c := range []struct {
		now         string
		status      attendance.Status
		provisional bool
		again       string
	}{
		{"07:00", attendance.Expected, true, "2026-11-02 08:05"},
		{"08:04", attendance.Expected, true, "2026-11-02 08:05"},
		{"08:10", attendance.Absent, true, "2026-11-02 08:25:01"}, // when the gate would be silent for too long
		{"08:30", attendance.Working, true, "2026-11-02 17:00"},
		{"12:10", attendance.OnBreak, true, "2026-11-02 17:00"},
		{"12:40", attendance.Working, true, "2026-11-02 17:00"},
		{"18:00", attendance.Late, true, "2026-11-03 04:00"},
		{"29:00", attendance.Late, false, ""},
	} {
		w.now = w.local("2026-11-02 00:00").Add(duration(t, strings.Replace(c.now, ":", "h", 1)+"m"))
		w.line.Punches = nil
		for _, p := range all {
			if !p.At.After(w.now) {
				w.line.Punches = append(w.line.Punches, p)
			}
		}
		w.line.Sources[0].CompleteUntil = w.now
		d := w.day("2026-11-02")
		again := ""
		if !d.FoldAgainAt.IsZero() {
			again = d.FoldAgainAt.Format("2006-01-02 15:04:05")
			again = strings.TrimSuffix(again, ":00")
		}
		if d.Status != c.status || d.Provisional != c.provisional || again != c.again {
			t.Errorf("at %s: %s, provisional %t, again at %q; want %s, %t, %q", c.now, d.Status, d.Provisional, again, c.status, c.provisional, c.again)
		}
	}
}

func TestASilentSourceIsNoAbsence(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	source := func(name, until string, waiting int) attendance.Source {
		return attendance.Source{Name: name, CompleteUntil: w.local("2026-11-02 " + until), Waiting: waiting}
	}
	for _, c := range []struct {
		name    string
		now     string
		sources []attendance.Source
		status  attendance.Status
		silent  string
	}{
		{"no source is known", "09:05", nil, attendance.NotKnownYet, ""},
		{"all have reported", "09:05", []attendance.Source{source("gate", "09:04", 0), source("kiosk-7", "09:05", 0)}, attendance.Absent, ""},
		{"one holds punches from before the shift", "09:05", []attendance.Source{source("gate", "09:04", 0), source("kiosk-7", "07:51", 12)}, attendance.NotKnownYet, "kiosk-7"},
		{"one is silent since the end of the grace", "12:00", []attendance.Source{source("gate", "11:59", 0), source("kiosk-7", "08:06", 0)}, attendance.NotKnownYet, "kiosk-7"},
		{"one has reported during the grace alone", "08:06", []attendance.Source{source("gate", "08:03", 0)}, attendance.NotKnownYet, "gate"},
		{"one is silent since the end of the shift", "23:00", []attendance.Source{source("gate", "17:01", 0)}, attendance.Absent, "gate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.now, w.line.Sources = w.local("2026-11-02 "+c.now), c.sources
			d := w.day("2026-11-02")
			silent := ""
			for _, s := range d.Complete.Silent {
				silent += s.Name
			}
			if d.Status != c.status || silent != c.silent {
				t.Errorf("%s, silent %q; want %s, %q", d.Status, silent, c.status, c.silent)
			}
			for _, s := range c.sources {
				if d.Complete.Until.After(s.CompleteUntil) {
					t.Errorf("complete until %s, but %s only until %s", d.Complete.Until, s.Name, s.CompleteUntil)
				}
			}
		})
	}
}

func TestAnAbsenceCanBecomeNotKnownByTimeAlone(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.line.Sources[0].CompleteUntil = w.local("2026-11-02 09:00")
	w.now = w.local("2026-11-02 09:05")
	d := w.day("2026-11-02")
	if d.Status != attendance.Absent || d.FoldAgainAt.IsZero() {
		t.Fatalf("%s, again at %s; want absent, and a time", d.Status, d.FoldAgainAt)
	}
	for w.now = d.FoldAgainAt; !w.now.IsZero(); w.now = d.FoldAgainAt {
		if d = w.day("2026-11-02"); !d.FoldAgainAt.IsZero() && !d.FoldAgainAt.After(w.now) {
			t.Fatalf("at %s the day is to be folded again at %s", w.now, d.FoldAgainAt)
		}
	}
	if d.Status != attendance.NotKnownYet || d.Provisional {
		t.Errorf("at the end %s, provisional %t; want not known yet, final", d.Status, d.Provisional)
	}
}

// TestTwoNodesFoldTheSameDay holds that two nodes write the same bytes, whatever the order in which they read.
func TestTwoNodesFoldTheSameDay(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.inOut("2026-11-02 08:00", "2026-11-02 12:00")
	w.inOut("2026-11-02 13:00", "2026-11-02 17:00")
	w.line.From, w.line.To = mustDate(t, "2026-11-02"), mustDate(t, "2026-11-02")
	rules := w.rules()
	texts := make([]string, 4)
	var group sync.WaitGroup
	for i := range texts {
		line := w.line
		line.Punches = append(append(line.Punches[:0:0], w.line.Punches[i:]...), w.line.Punches[:i]...)
		group.Go(func() {
			text, err := json.Marshal(attendance.Fold(line, rules, w.now))
			if err != nil {
				t.Error(err)
			}
			texts[i] = string(text)
		})
	}
	group.Wait()
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("two folds differ:\n%s\n%s", texts[0], text)
		}
	}
}

// TestAnEmployeeOfTwoCompanies holds that each company folds its own punches by its own rules.
func TestAnEmployeeOfTwoCompanies(t *testing.T) {
	a, b := newWorld(t, "Europe/Berlin"), newWorld(t, "America/New_York")
	b.line.Company = "beta"
	a.inOut("2026-11-02T07:00:00Z", "2026-11-02T11:00:00Z")
	b.inOut("2026-11-02T13:00:00Z", "2026-11-02T22:00:00Z")
	a.wants(want{"2026-11-02", attendance.Present, "4h", nil})
	b.wants(want{"2026-11-02", attendance.Present, "9h", nil})
	if d := b.day("2026-11-02"); d.Company != "beta" || d.Zone != "America/New_York" {
		t.Errorf("the day is of %s in %s", d.Company, d.Zone)
	}
}

// TestAMoveBetweenInAndOutChangesNothing holds that the home region of a punch is no input.
func TestAMoveBetweenInAndOutChangesNothing(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	for _, r := range []punch.Receipt{
		{ID: punch.ID(id(1)), Kind: in, PunchedAt: w.local("2026-11-02 08:00"), HomeRegion: "eu-west"},
		{ID: punch.ID(id(2)), Kind: out, PunchedAt: w.local("2026-11-02 17:00"), HomeRegion: "us-east"},
	} {
		w.line.Punches = append(w.line.Punches, attendance.PunchOf(&r, "gate"))
	}
	w.wants(want{"2026-11-02", attendance.Present, "9h", nil})
}

// TestTheSamePunchTwiceCountsOnce holds for files that were imported twice and for files that overlap.
func TestTheSamePunchTwiceCountsOnce(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Pairing = attendance.Alternating
	w.punch(auto, "2026-11-02 08:00")
	w.punch(auto, "2026-11-02 17:00")
	w.line.Punches = append(w.line.Punches, w.line.Punches...)
	w.wants(want{"2026-11-02", attendance.Present, "9h", nil})
	if n := w.day("2026-11-02").Inputs.Punches; n != 2 {
		t.Errorf("%d punches, want 2", n)
	}
	// One file under two names of its source has other ids. The gap for double taps keeps the day right.
	w.line.Punches = w.line.Punches[:2]
	w.punchAt(auto, "2026-11-02 08:00", "gate-copy")
	w.punchAt(auto, "2026-11-02 17:00", "gate-copy")
	w.wants(want{"2026-11-02", attendance.Present, "9h", nil})
}
