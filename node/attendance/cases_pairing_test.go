package attendance_test

import (
	"fmt"
	"testing"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
)

const (
	in         = punch.In
	out        = punch.Out
	auto       = punch.Auto
	breakStart = punch.BreakStart
	breakEnd   = punch.BreakEnd
)

type marks = []attendance.Mark

// The cases come from public reports about other systems. DESIGN.md gives the reason of each value.

func TestNightShiftBeforeAnotherShift(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Limits = attendance.Limits{}
	w.roster(`{"schedule":"mixed","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[
		{"start":"18:30","end":"07:10"},{"start":"08:00","end":"16:00"},null,null,null,null,null]}`)
	w.inOut("2026-11-02 18:25", "2026-11-03 07:20") // the out is nearer to the second shift
	w.inOut("2026-11-03 07:50", "2026-11-03 16:00")
	w.wants(
		want{"2026-11-02", attendance.Present, "12h55m", nil},
		want{"2026-11-03", attendance.Present, "8h10m", nil},
		want{"2026-11-04", attendance.Off, "0s", nil},
	)
}

// TestNearShiftsWithoutKeys holds that a punch belongs to the nearest shift.
func TestNearShiftsWithoutKeys(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Limits, w.settings.Pairing = attendance.Limits{}, attendance.Alternating
	w.roster(`{"schedule":"mixed","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[
		{"start":"18:30","end":"07:10"},{"start":"08:00","end":"16:00"},null,null,null,null,null]}`)
	for _, when := range []string{"2026-11-02 18:25", "2026-11-03 07:30", "2026-11-03 07:40", "2026-11-03 16:00"} {
		w.punch(auto, when) // the middle between the shifts is 07:35
	}
	w.wants(
		want{"2026-11-02", attendance.Present, "13h5m", nil},
		want{"2026-11-03", attendance.Present, "8h20m", nil},
	)
}

// TestDoubleTapAtTheBoundary holds that a date does not depend on a run of taps that began before it.
func TestDoubleTapAtTheBoundary(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.punch(in, "2026-11-02 03:59:40")
	w.punch(in, "2026-11-02 04:00:20")
	w.punch(out, "2026-11-02 08:00:20")
	w.wants(
		want{"2026-11-01", attendance.MissingOuts, "0s", marks{attendance.MarkMissingOut}},
		want{"2026-11-02", attendance.Present, "4h", nil},
	)
}

// TestTheGapFollowsTheLatestTap holds for a run that is longer than the gap.
func TestTheGapFollowsTheLatestTap(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	for _, when := range []string{"08:00:00", "08:00:50", "08:01:40", "17:00:00"} {
		w.punch(auto, "2026-11-02 "+when)
	}
	w.wants(want{"2026-11-02", attendance.Present, "9h", nil})
}

func TestNightShiftsInARow(t *testing.T) {
	for _, mode := range []attendance.Pairing{attendance.AsPressed, attendance.Alternating, attendance.FirstLast} {
		w := newWorld(t, "Europe/Berlin")
		w.settings.Limits, w.settings.Pairing = attendance.Limits{}, mode
		w.roster(nights)
		for d := 2; d < 8; d++ {
			w.inOut(fmt.Sprintf("2026-11-%02d 18:20", d), fmt.Sprintf("2026-11-%02d 07:15", d+1))
		}
		for d := 2; d < 8; d++ {
			w.wants(want{fmt.Sprintf("2026-11-%02d", d), attendance.Present, "12h55m", nil})
		}
	}
}

func TestForgottenOutLeavesTheNextThreeWeeksRight(t *testing.T) {
	for _, mode := range []attendance.Pairing{attendance.AsPressed, attendance.Alternating, attendance.FirstLast} {
		w := newWorld(t, "Europe/Berlin")
		w.settings.Pairing = mode
		w.roster(officeHours)
		w.punch(in, "2026-11-02 08:00") // a Monday
		var days []want
		for d := 3; d < 24; d++ {
			date := fmt.Sprintf("2026-11-%02d", d)
			if weekday := (d - 2) % 7; weekday > 4 {
				days = append(days, want{date, attendance.Off, "0s", nil})
				continue
			}
			w.inOut(date+" 08:00", date+" 17:00")
			days = append(days, want{date, attendance.Present, "9h", nil})
		}
		w.wants(want{"2026-11-02", attendance.MissingOuts, "9h", marks{attendance.MarkMissingOut}})
		w.wants(days...)
	}
}

func TestForgottenLunchInNeverTurnsTheNextInIntoAnOut(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Pairing = attendance.Alternating
	w.roster(officeHours)
	w.punch(auto, "2026-11-02 08:00")
	w.punch(auto, "2026-11-02 12:00")
	w.punch(auto, "2026-11-02 17:00") // the in at 13:00 was forgotten
	w.punch(auto, "2026-11-03 08:00") // 15 hours later, less than the longest session
	w.punch(auto, "2026-11-03 17:00")
	w.wants(
		want{"2026-11-02", attendance.MissingOuts, "4h", marks{attendance.MarkMissingOut}},
		want{"2026-11-03", attendance.Present, "9h", nil},
	)
}

// TestNextInEndsTheDerivedTime holds that a session without an out does not count beyond the next in of its source.
func TestNextInEndsTheDerivedTime(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.punch(in, "2026-11-02 08:00")
	w.inOut("2026-11-02 13:00", "2026-11-02 17:00")
	w.wants(want{"2026-11-02", attendance.MissingOuts, "9h", marks{attendance.MarkMissingOut}})
	if s := w.day("2026-11-02").Sessions; len(s) != 2 || !s[0].End.Equal(w.local("2026-11-02 13:00")) {
		t.Errorf("sessions %+v, want the first to end at 13:00", s)
	}
}

// TestWithoutKeysASessionEndsWithItsDate holds for punches without a kind, in companies with keys as well.
func TestWithoutKeysASessionEndsWithItsDate(t *testing.T) {
	for _, mode := range []attendance.Pairing{attendance.AsPressed, attendance.Alternating} {
		w := newWorld(t, "Europe/Berlin")
		w.settings.Pairing = mode
		w.punch(auto, "2026-11-02 22:00")
		w.punch(auto, "2026-11-03 06:00")
		w.punch(auto, "2026-11-03 14:00")
		w.wants(
			want{"2026-11-02", attendance.MissingOuts, "0s", marks{attendance.MarkMissingOut}},
			want{"2026-11-03", attendance.Present, "8h", nil},
		)
	}
	w := newWorld(t, "Europe/Berlin")
	w.settings.Pairing = attendance.Alternating
	w.punch(auto, "2026-11-02 22:00")
	for now, status := range map[string]attendance.Status{"2026-11-03 03:59": attendance.Working, "2026-11-03 04:01": attendance.MissingOuts} {
		w.now = w.local(now)
		if d := w.day("2026-11-02"); d.Status != status {
			t.Errorf("at %s: %s, want %s", now, d.Status, status)
		}
	}
}

// TestADerivedEndTouchesNoOtherDate holds under every rule for the work date.
func TestADerivedEndTouchesNoOtherDate(t *testing.T) {
	for rule, worked := range map[attendance.WorkDate]string{
		attendance.ByStart: "16h", attendance.ByEnd: "16h", attendance.ByLongerPart: "16h", attendance.BySplit: "4h",
	} {
		w := newWorld(t, "Europe/Berlin")
		w.settings.Limits = attendance.Limits{}
		w.settings.WorkDate, w.settings.MissingOut = rule, attendance.CountLongest
		w.punch(in, "2026-11-02 20:00")
		w.wants(
			want{"2026-11-02", attendance.MissingOuts, worked, marks{attendance.MarkMissingOut}},
			want{"2026-11-03", attendance.Off, "0s", nil},
		)
	}
}

// TestTheLongestSessionMayBeReached holds that an out at the very end of the longest session closes it.
func TestTheLongestSessionMayBeReached(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Limits = attendance.Limits{}
	w.punch(in, "2026-11-02 08:00")
	w.now = w.local("2026-11-03 00:00")
	w.wants(want{"2026-11-02", attendance.Working, "0s", nil})
	w.now = w.local("2026-11-03 00:00:01")
	w.wants(want{"2026-11-02", attendance.MissingOuts, "0s", marks{attendance.MarkMissingOut}})
	w.punch(out, "2026-11-03 00:00")
	w.wants(want{"2026-11-02", attendance.Present, "16h", nil})
}

// TestManySourcesStayFast holds that a device which names another source for each punch gets sessions as well.
func TestManySourcesStayFast(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.DoubleTapSeconds = 0
	start := w.local("2026-11-02 08:00")
	for i := range 5000 {
		kind := in
		if i%2 == 1 {
			kind = breakStart
		}
		p := attendance.Punch{ID: id(i + 1), Kind: kind, At: start.Add(seconds(int64(i))), Source: fmt.Sprintf("s%d", i)}
		w.line.Punches = append(w.line.Punches, p)
	}
	w.punch(out, "2026-11-02 17:00")
	if d := w.day("2026-11-02"); len(d.Sessions) != 2500 || len(d.Breaks) != 2500 || d.Sessions[2499].Out == nil {
		t.Errorf("%d sessions and %d breaks, want 2500 of each and an out of the last", len(d.Sessions), len(d.Breaks))
	}
}

func TestMissingOutCountsByItsRule(t *testing.T) {
	for rule, worked := range map[attendance.MissingOut]string{
		attendance.CountNothing: "0s", attendance.CountShift: "9h", attendance.CountLongest: "16h",
	} {
		w := newWorld(t, "Europe/Berlin")
		w.settings.MissingOut = rule
		w.settings.Limits = attendance.Limits{}
		w.roster(officeHours)
		w.punch(in, "2026-11-02 08:00")
		w.wants(want{"2026-11-02", attendance.MissingOuts, worked, marks{attendance.MarkMissingOut}})
		d := w.day("2026-11-02")
		if len(d.Sessions) != 1 || d.Sessions[0].Out != nil {
			t.Errorf("%s: sessions %+v, want one without a punch as its out", rule, d.Sessions)
		}
	}
}

func TestInInOutWithinOneMinute(t *testing.T) {
	for person := range 12 {
		w := newWorld(t, "Europe/Berlin")
		w.punch(in, fmt.Sprintf("2026-11-02 08:00:%02d", person))
		w.punch(in, fmt.Sprintf("2026-11-02 08:00:%02d", person+10))
		w.punch(out, fmt.Sprintf("2026-11-02 08:00:%02d", person+40))
		w.wants(want{"2026-11-02", attendance.Present, "40s", marks{attendance.MarkShortSession}})
	}
}

func TestThreeReadsInOneSecond(t *testing.T) {
	for _, kind := range []punch.Kind{in, auto} {
		w := newWorld(t, "Europe/Berlin")
		for _, when := range []string{"08:00:00.1", "08:00:00.4", "08:00:00.9"} {
			w.punch(kind, "2026-11-02 "+when)
		}
		for i, when := range []string{"17:00:00.1", "17:00:00.4", "17:00:01.9"} { // across terminals
			last := kind
			if kind == in {
				last = out
			}
			w.punchAt(last, "2026-11-02 "+when, fmt.Sprintf("gate-%d", i))
		}
		w.wants(want{"2026-11-02", attendance.Present, "9h0m1s", nil})
		if d := w.day("2026-11-02"); d.Inputs.Punches != 6 {
			t.Errorf("%s: %d punches, want all 6 counted", kind, d.Inputs.Punches)
		}
	}
}

func TestInAndOutInTheSameSecond(t *testing.T) {
	for name, order := range map[string][2]string{"one instant": {".5", ".5"}, "in first": {".2", ".7"}} {
		for _, swap := range []bool{false, true} { // the order of arrival
			w := newWorld(t, "Europe/Berlin")
			w.punchAt(in, "2026-11-02 08:00:00"+order[0], "eu")
			w.punchAt(out, "2026-11-02 08:00:00"+order[1], "us")
			if swap {
				p := w.line.Punches
				p[0], p[1] = p[1], p[0]
			}
			w.wants(want{"2026-11-02", attendance.Present, "0s", marks{attendance.MarkShortSession}})
			if d := w.day("2026-11-02"); len(d.Sessions) != 1 || d.Inputs.Punches != 2 {
				t.Errorf("%s: %d sessions of %d punches, want 1 of 2", name, len(d.Sessions), d.Inputs.Punches)
			}
		}
	}
	// An out that is really first ends nothing, and the in after it is open.
	w := newWorld(t, "Europe/Berlin")
	w.punch(out, "2026-11-02 08:00:00.2")
	w.punch(in, "2026-11-02 08:00:00.7")
	w.wants(want{"2026-11-02", attendance.MissingOuts, "0s", marks{attendance.MarkMissingOut, attendance.MarkMissingIn}})
	// In the middle of a session, the out at the instant of an in ends the session, and the in begins another.
	w = newWorld(t, "Europe/Berlin")
	w.punch(in, "2026-11-02 08:00")
	w.punch(in, "2026-11-02 12:00")
	w.punch(out, "2026-11-02 12:00")
	w.punch(out, "2026-11-02 17:00")
	w.wants(want{"2026-11-02", attendance.Present, "9h", nil})
	if d := w.day("2026-11-02"); len(d.Sessions) != 2 {
		t.Errorf("%d sessions, want 2", len(d.Sessions))
	}
}

func TestOutBeforeMidnightStaysOnItsDate(t *testing.T) {
	for _, rule := range []attendance.WorkDate{attendance.ByStart, attendance.ByEnd, attendance.ByLongerPart, attendance.BySplit} {
		w := newWorld(t, "Europe/Berlin")
		w.settings.WorkDate = rule
		w.inOut("2026-11-02 16:00", "2026-11-02 23:59:59.9")
		w.wants(
			want{"2026-11-02", attendance.Present, "7h59m59s", nil},
			want{"2026-11-03", attendance.Off, "0s", nil},
		)
	}
}

func TestOverlappingSessionsAtTwoSitesCountOnce(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.punchAt(in, "2026-11-02 08:00", "site-a")
	w.punchAt(in, "2026-11-02 10:00", "site-b")
	w.punchAt(out, "2026-11-02 12:00", "site-b")
	w.punchAt(out, "2026-11-02 17:00", "site-a")
	w.wants(want{"2026-11-02", attendance.Present, "9h", marks{attendance.MarkOverlap}})
	w = newWorld(t, "Europe/Berlin")
	w.punchAt(in, "2026-11-02 08:00", "site-a")
	w.punchAt(in, "2026-11-02 10:00", "site-b")
	w.punchAt(out, "2026-11-02 12:00", "site-a")
	w.punchAt(out, "2026-11-02 17:00", "site-b")
	w.wants(want{"2026-11-02", attendance.Present, "9h", marks{attendance.MarkOverlap}})
}

// TestForgottenOutAtAnotherGate holds that an employee who has left through gate B is not shown as working at gate A.
func TestForgottenOutAtAnotherGate(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.punchAt(in, "2026-11-02 08:00", "gate-a")
	w.punchAt(in, "2026-11-02 13:00", "gate-b")
	w.punchAt(out, "2026-11-02 17:00", "gate-b")
	w.now = w.local("2026-11-02 18:00")
	w.wants(want{"2026-11-02", attendance.MissingOuts, "9h", marks{attendance.MarkMissingOut}})
	w.punchAt(auto, "2026-11-02 17:30", "gate-a") // comes again; a punch without a kind closes no such session
	w.wants(want{"2026-11-02", attendance.Working, "9h", marks{attendance.MarkMissingOut}})
}

func TestWorkDateOfANightShift(t *testing.T) {
	for rule, worked := range map[attendance.WorkDate][2]string{
		attendance.ByStart:      {"8h", "0s"},
		attendance.ByEnd:        {"0s", "8h"},
		attendance.ByLongerPart: {"0s", "8h"},
		attendance.BySplit:      {"2h", "6h"},
	} {
		for _, rostered := range []bool{false, true} {
			w := newWorld(t, "Europe/Berlin")
			w.settings.WorkDate = rule
			if rostered {
				w.roster(`{"schedule":"n","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[{"start":"22:00","end":"06:00"},null,null,null,null,null,null]}`)
			}
			w.inOut("2026-11-02 22:00", "2026-11-03 06:00")
			for i, date := range []string{"2026-11-02", "2026-11-03"} {
				d := w.day(date)
				if seconds(d.Totals.Worked) != duration(t, worked[i]) || len(d.Marks) > 0 {
					t.Errorf("%s, rostered %t, %s: worked %s, marks %v; want %s and none", rule, rostered, date, seconds(d.Totals.Worked), d.Marks, worked[i])
				}
				if present := worked[i] != "0s"; present != (d.Status == attendance.Present) {
					t.Errorf("%s, rostered %t, %s: status %s", rule, rostered, date, d.Status)
				}
			}
		}
	}
}

func TestUnpairedOutIsMarkedAndKept(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	o := w.punch(out, "2026-11-02 17:00")
	w.wants(want{"2026-11-02", attendance.Present, "0s", marks{attendance.MarkMissingIn}})
	if d := w.day("2026-11-02"); len(d.Unpaired) != 1 || d.Unpaired[0].ID != o || d.Unpaired[0].Reason != attendance.MarkMissingIn {
		t.Errorf("unpaired %+v, want the out", d.Unpaired)
	}
}

func TestFirstLast(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Pairing = attendance.FirstLast
	for _, when := range []string{"08:00", "09:30", "12:00", "12:45", "17:00"} {
		w.punch(auto, "2026-11-02 "+when)
	}
	w.wants(want{"2026-11-02", attendance.Present, "9h", nil})
}

func TestAutoInACompanyWithKeys(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.punch(auto, "2026-11-02 08:00")
	w.punch(auto, "2026-11-02 12:00")
	w.punch(in, "2026-11-02 13:00")
	w.punch(auto, "2026-11-02 17:00")
	w.wants(want{"2026-11-02", attendance.Present, "8h", nil})
}
