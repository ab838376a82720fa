package attendance_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/attendance"
)

func TestBreaks(t *testing.T) {
	const withBreaks = `{"schedule":"b","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[{"start":"08:00","end":"17:00"}],
		"breaks":[{"after_minutes":360,"minutes":30,"deduct":true},{"after_minutes":540,"minutes":45,"deduct":true}]}`
	for _, c := range []struct {
		name             string
		punches          [][2]string // key and time
		worked           string
		breaks, deducted time.Duration
		marks            marks
	}{
		{"none taken", [][2]string{{"in", "08:00"}, {"out", "17:00"}}, "8h30m", 0, 30 * time.Minute, nil},
		{"taken in full", [][2]string{{"in", "08:00"}, {"break_start", "12:00"}, {"break_end", "12:30"}, {"out", "17:00"}}, "8h30m", 30 * time.Minute, 0, nil},
		{"taken in part", [][2]string{{"in", "08:00"}, {"break_start", "12:00"}, {"break_end", "12:20"}, {"out", "17:00"}}, "8h30m", 20 * time.Minute, 10 * time.Minute, nil},
		{"taken as out and in", [][2]string{{"in", "08:00"}, {"out", "12:00"}, {"in", "13:00"}, {"out", "17:00"}}, "8h", 0, 0, nil},
		{"both rules", [][2]string{{"in", "07:30"}, {"out", "17:30"}}, "9h15m", 0, 45 * time.Minute, nil},
		{"just over six hours", [][2]string{{"in", "08:00"}, {"out", "14:05"}}, "6h", 0, 5 * time.Minute, marks{attendance.MarkLeftEarly}},
		{"six hours", [][2]string{{"in", "08:00"}, {"out", "14:00"}}, "6h", 0, 0, marks{attendance.MarkLeftEarly}},
		{"longer than the work", [][2]string{{"in", "08:00"}, {"break_start", "08:10"}, {"break_end", "16:50"}, {"out", "17:00"}}, "20m", 8*time.Hour + 40*time.Minute, 0, marks{attendance.MarkLongBreak}},
		{"ends after the session", [][2]string{{"in", "08:00"}, {"break_start", "12:00"}, {"out", "17:00"}, {"break_end", "18:00"}}, "4h", 5 * time.Hour, 0, marks{attendance.MarkLongBreak}},
		{"gone during the break", [][2]string{{"in", "08:00"}, {"break_start", "12:00"}, {"out", "12:05"}, {"in", "12:30"}, {"break_end", "13:00"}, {"out", "17:00"}}, "8h", 35 * time.Minute, 0, nil},
		{"end forgotten", [][2]string{{"in", "08:00"}, {"break_start", "12:00"}, {"out", "17:00"}}, "8h30m", 0, 30 * time.Minute, marks{attendance.MarkMissingBreakEnd}},
		{"start forgotten", [][2]string{{"in", "08:00"}, {"break_end", "12:30"}, {"out", "17:00"}}, "8h30m", 0, 30 * time.Minute, marks{attendance.MarkMissingBreakIn}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "Europe/Berlin")
			w.roster(withBreaks)
			for _, p := range c.punches {
				w.punch(kindOf(p[0]), "2026-11-02 "+p[1])
			}
			w.wants(want{"2026-11-02", w.day("2026-11-02").Status, c.worked, c.marks})
			if d := w.day("2026-11-02").Totals; seconds(d.Break) != c.breaks || seconds(d.AutomaticBreak) != c.deducted {
				t.Errorf("break %s, deducted %s; want %s, %s", seconds(d.Break), seconds(d.AutomaticBreak), c.breaks, c.deducted)
			}
		})
	}
}

func TestBreakLongerThanTheShiftAndItsDate(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.inOut("2026-11-02 08:00", "2026-11-02 12:00")
	w.punch(breakStart, "2026-11-02 09:00")
	w.punch(breakEnd, "2026-11-03 10:00") // 25 hours
	w.wants(
		want{"2026-11-02", attendance.Present, "4h", marks{attendance.MarkMissingBreakEnd}},
		want{"2026-11-03", attendance.Off, "0s", marks{attendance.MarkMissingBreakIn}},
	)
}

func TestRequiredBreakWithoutDeductionMakesAMark(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(`{"schedule":"b","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[{"start":"08:00","end":"17:00"}],"breaks":[{"after_minutes":360,"minutes":30}]}`)
	w.inOut("2026-11-02 08:00", "2026-11-02 17:00")
	w.wants(want{"2026-11-02", attendance.Present, "9h", marks{attendance.MarkMissingBreak}})
}

func TestPremiums(t *testing.T) {
	const text = `{"schedule":"p","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[null],"calendar":"de","premiums":[
		{"premium":"night","start":"22:00","end":"06:00"},
		{"premium":"evening","start":"18:00","end":"22:00"},
		{"premium":"early","start":"00:00","end":"06:00"},
		{"premium":"sunday","weekdays":["sunday"]},
		{"premium":"holiday","holidays":true}]}`
	for _, c := range []struct {
		name, in, out, date string
		amounts             []attendance.Amount
	}{
		{"across midnight", "2026-11-02 21:00", "2026-11-03 07:00", "2026-11-02", []attendance.Amount{{"night", 8 * 3600}, {"evening", 3600}, {"early", 6 * 3600}}},
		{"before the window's midnight", "2026-11-03 01:00", "2026-11-03 03:00", "2026-11-02", []attendance.Amount{{"night", 2 * 3600}, {"early", 2 * 3600}}},
		{"in the evening alone", "2026-11-02 17:00", "2026-11-02 19:30", "2026-11-02", []attendance.Amount{{"evening", 5400}}},
		{"Sunday ends at midnight", "2026-11-08 20:00", "2026-11-09 02:00", "2026-11-08", []attendance.Amount{{"night", 4 * 3600}, {"evening", 2 * 3600}, {"early", 2 * 3600}, {"sunday", 4 * 3600}}},
		{"night of 9 hours in October", "2026-10-24 22:00", "2026-10-25 06:00", "2026-10-24", []attendance.Amount{{"night", 9 * 3600}, {"early", 7 * 3600}, {"sunday", 7 * 3600}}},
		{"holiday", "2026-12-25 10:00", "2026-12-25 12:00", "2026-12-25", []attendance.Amount{{"holiday", 2 * 3600}}},
		{"no premium", "2026-11-02 10:00", "2026-11-02 12:00", "2026-11-02", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "Europe/Berlin")
			w.roster(text)
			w.set.Holidays = []attendance.Holiday{{Calendar: "de", Date: mustDate(t, "2026-12-25"), Name: "Christmas", Part: attendance.Full}}
			w.inOut(c.in, c.out)
			if got := w.day(c.date).Premiums; !reflect.DeepEqual(got, c.amounts) {
				t.Errorf("premiums %v, want %v", got, c.amounts)
			}
		})
	}
}

func TestHalfADayOfLeave(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.line.Absences = []attendance.Absence{{Date: mustDate(t, "2026-11-02"), Kind: "leave", Part: attendance.FirstHalf}}
	w.inOut("2026-11-02 12:30", "2026-11-02 17:00")
	w.wants(want{"2026-11-02", attendance.Present, "4h30m", nil})
	if d := w.day("2026-11-02"); seconds(d.Totals.Target) != 4*time.Hour+30*time.Minute || len(d.Absences) != 1 {
		t.Errorf("target %s, absences %v; want 4h30m and the leave", seconds(d.Totals.Target), d.Absences)
	}
	w.line.Punches = nil // the other half is an absence
	w.wants(want{"2026-11-02", attendance.Absent, "0s", nil})
	w.line.Absences = append(w.line.Absences, attendance.Absence{Date: mustDate(t, "2026-11-02"), Kind: "sick", Part: attendance.SecondHalf})
	w.wants(want{"2026-11-02", attendance.OnLeave, "0s", nil})
}

func TestLeaveAndHolidays(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Calendar = "de"
	w.roster(officeHours)
	w.line.Absences = []attendance.Absence{{Date: mustDate(t, "2026-11-02"), Kind: "travel", Part: attendance.Full}}
	w.set.Holidays = []attendance.Holiday{{Calendar: "de", Date: mustDate(t, "2026-11-03"), Name: "Founders", Part: attendance.Full}}
	w.wants(want{"2026-11-02", attendance.OnLeave, "0s", nil}, want{"2026-11-03", attendance.OnHoliday, "0s", nil})
	w.inOut("2026-11-02 08:00", "2026-11-02 10:00")
	w.inOut("2026-11-03 09:00", "2026-11-03 10:00")
	w.wants(
		want{"2026-11-02", attendance.Present, "2h", marks{attendance.MarkWorkedOnLeave}},
		want{"2026-11-03", attendance.Present, "1h", marks{attendance.MarkWorkedOnHoliday}},
	)
}

// TestLeaveOnADayOff holds that leave over a weekend does not make its days leave.
func TestLeaveOnADayOff(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.line.Absences = []attendance.Absence{{Date: mustDate(t, "2026-11-07"), Kind: "leave", Part: attendance.Full}}
	w.wants(want{"2026-11-07", attendance.Off, "0s", nil})
	w.line.Assignments = nil // without a schedule no day is known to be off
	w.wants(want{"2026-11-07", attendance.OnLeave, "0s", nil})
}

func TestHiredAtNoon(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.line.Employment.From = w.local("2026-11-02 12:00")
	w.inOut("2026-11-02 12:03", "2026-11-02 17:00")
	w.wants(
		want{"2026-11-01", attendance.NotEmployed, "0s", nil},
		want{"2026-11-02", attendance.Present, "4h57m", nil},
		want{"2026-11-03", attendance.Absent, "0s", nil},
	)
	w.line.Employment.To = w.local("2026-11-03 00:00")
	w.wants(want{"2026-11-03", attendance.NotEmployed, "0s", nil})
}

func TestRosterAfterThePunchesGivesTheSameDays(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.inOut("2026-11-02 18:20", "2026-11-03 07:15")
	before := w.day("2026-11-02")
	w.roster(nights)
	after := w.day("2026-11-02")
	fresh := newWorld(t, "Europe/Berlin")
	fresh.roster(nights)
	fresh.inOut("2026-11-02 18:20", "2026-11-03 07:15")
	if again := fresh.day("2026-11-02"); !reflect.DeepEqual(after, again) {
		t.Errorf("the day is %+v with a late roster and %+v with an early one", after, again)
	}
	if before.Inputs.Rules == after.Inputs.Rules || len(after.Shifts) != 1 {
		t.Error("the roster changed neither the shifts nor the digest of the rules")
	}
}

func TestRostersThatDisagreeMakeAMarkAndNoAbsence(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.roster(nights)
	w.wants(want{"2026-11-02", attendance.NotKnownYet, "0s", marks{attendance.MarkRosterConflict}})
	w.inOut("2026-11-02 10:00", "2026-11-02 12:00")
	w.wants(want{"2026-11-02", attendance.Present, "2h", marks{attendance.MarkRosterConflict}})
}

func TestUnknownScheduleIsMarked(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.line.Assignments = []attendance.Assignment{{From: mustDate(t, "2026-11-01"), Schedule: "ghost"}}
	w.wants(
		want{"2026-10-31", attendance.Off, "0s", nil},
		want{"2026-11-02", attendance.NotKnownYet, "0s", marks{attendance.MarkUnknownSchedule}},
	)
}

// TestANewRuleChangesNoOldDay holds for settings, schedules and assignments.
func TestANewRuleChangesNoOldDay(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.inOut("2026-11-02 08:00", "2026-11-02 17:00")
	w.inOut("2026-11-03 10:00", "2026-11-03 17:00")
	old := w.fold("2026-11-02", "2026-11-03")
	newer := w.set.Schedules[0]
	newer.EffectiveFrom = mustDate(t, "2026-11-03")
	newer.Grace.LateMinutes = 180
	w.set.Schedules = append(w.set.Schedules, newer)
	days := w.fold("2026-11-02", "2026-11-03")
	if !reflect.DeepEqual(days[0], old[0]) {
		t.Errorf("the day before the new version changed from %+v to %+v", old[0], days[0])
	}
	if old[1].Status != attendance.Late || days[1].Status != attendance.Present {
		t.Errorf("the day of the new version was %s and is %s, want late and present", old[1].Status, days[1].Status)
	}
}

func TestLateAndEarly(t *testing.T) {
	for _, c := range []struct {
		in, out     string
		status      attendance.Status
		late, early time.Duration
	}{
		{"08:05", "16:55", attendance.Present, 0, 0}, // within the grace
		{"08:05:01", "17:00", attendance.Late, 5*time.Minute + time.Second, 0},
		{"08:06", "17:00", attendance.Late, 6 * time.Minute, 0},
		{"08:00", "16:54", attendance.LeftEarly, 0, 6 * time.Minute},
		{"09:00", "16:00", attendance.Late, time.Hour, time.Hour},
		{"06:00", "19:00", attendance.Present, 0, 0},
	} {
		w := newWorld(t, "Europe/Berlin")
		w.roster(officeHours)
		w.inOut("2026-11-02 "+c.in, "2026-11-02 "+c.out)
		if d := w.day("2026-11-02"); d.Status != c.status || seconds(d.Totals.Late) != c.late || seconds(d.Totals.Early) != c.early {
			t.Errorf("%s to %s: %s, late %s, early %s; want %s, %s, %s", c.in, c.out, d.Status, seconds(d.Totals.Late), seconds(d.Totals.Early), c.status, c.late, c.early)
		}
	}
	w := newWorld(t, "Europe/Berlin")
	w.roster(`{"schedule":"flex","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[{"start":"06:00","end":"20:00","flexible":true,"target_minutes":480}]}`)
	w.inOut("2026-11-02 10:00", "2026-11-02 15:00")
	w.wants(want{"2026-11-02", attendance.Present, "5h", nil})
}

func TestOvertime(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.settings.Limits = attendance.Limits{}
	w.roster(`{"schedule":"o","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[null],"overtime":{"daily_after_minutes":480,"weekly_after_minutes":2400}}`)
	for _, d := range []string{"02", "03", "04", "05", "06", "07"} { // Monday to Saturday
		w.inOut("2026-11-"+d+" 08:00", "2026-11-"+d+" 17:00")
	}
	for i, d := range w.fold("2026-11-02", "2026-11-07") {
		daily, weekly := time.Hour, time.Duration(0)
		if i == 5 { // 5 days of 8 regular hours are a week
			weekly = 8 * time.Hour
		}
		if seconds(d.Totals.OvertimeDaily) != daily || seconds(d.Totals.OvertimeWeekly) != weekly {
			t.Errorf("%s: overtime %s and %s, want %s and %s", d.Date, seconds(d.Totals.OvertimeDaily), seconds(d.Totals.OvertimeWeekly), daily, weekly)
		}
	}
	if d := w.day("2026-11-07"); seconds(d.Totals.OvertimeWeekly) != 8*time.Hour {
		t.Errorf("folded alone, Saturday has %s of weekly overtime, want 8h", seconds(d.Totals.OvertimeWeekly))
	}
}

func TestLegalMarks(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.inOut("2026-11-02 08:00", "2026-11-02 23:00") // 15 hours
	w.inOut("2026-11-03 08:00", "2026-11-03 18:00") // after 9 hours of rest
	w.inOut("2026-11-04 05:00", "2026-11-04 15:00") // after 11 hours of rest
	w.inOut("2026-11-05 05:00", "2026-11-05 15:00")
	w.inOut("2026-11-06 05:00", "2026-11-06 08:00") // 48 hours
	w.inOut("2026-11-07 05:00", "2026-11-07 06:00")
	w.wants(
		want{"2026-11-02", attendance.Present, "15h", marks{attendance.MarkLongDay}},
		want{"2026-11-03", attendance.Present, "10h", marks{attendance.MarkShortRest}},
		want{"2026-11-04", attendance.Present, "10h", nil},
		want{"2026-11-05", attendance.Present, "10h", nil},
		want{"2026-11-06", attendance.Present, "3h", nil},
		want{"2026-11-07", attendance.Present, "1h", marks{attendance.MarkLongWeek}},
	)
}
