package attendance_test

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/attendance"
)

// TestMain gives this host an old table of time zones: Mexico City changes its clocks there as Chicago does. No day may
// use it.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "zones")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a left-over directory harms nobody
		if err := writeOldTable(dir); err != nil {
			panic(err)
		}
		if err := os.Setenv("ZONEINFO", dir); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

func writeOldTable(dir string) error {
	table, err := zip.OpenReader("../zone/zoneinfo.zip")
	if err != nil {
		return err
	}
	defer table.Close() //nolint:errcheck // nothing was written
	chicago, err := table.Open("America/Chicago")
	if err != nil {
		return err
	}
	data, err := io.ReadAll(chicago)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "America"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "America", "Mexico_City"), data, 0o600)
}

func TestDaysWithAChangeOfClocks(t *testing.T) {
	for _, c := range []struct{ name, zone, in, out, date, worked string }{
		{"October, both 02:30", "Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-24", "1h"},
		{"October, a whole night", "Europe/Berlin", "2026-10-24 22:00", "2026-10-25 06:00", "2026-10-24", "9h"},
		{"March, the missing hour", "Europe/Berlin", "2026-03-28 22:00", "2026-03-29 06:00", "2026-03-28", "7h"},
		{"Lord Howe, half an hour less", "Australia/Lord_Howe", "2026-10-03 22:00", "2026-10-04 06:00", "2026-10-03", "7h30m"},
		{"Lord Howe, half an hour more", "Australia/Lord_Howe", "2026-04-04 22:00", "2026-04-05 06:00", "2026-04-04", "8h30m"},
		{"Mexico without summer time since 2022", "America/Mexico_City", "2026-04-05 01:00", "2026-04-05 04:00", "2026-04-04", "3h"},
		{"Kiritimati, +14", "Pacific/Kiritimati", "2026-11-02T08:00:00+14:00", "2026-11-02T17:00:00+14:00", "2026-11-02", "9h"},
		{"Niue, -11", "Pacific/Niue", "2026-11-02T08:00:00-11:00", "2026-11-02T17:00:00-11:00", "2026-11-02", "9h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.zone)
			w.inOut(c.in, c.out)
			w.wants(want{c.date, attendance.Present, c.worked, nil})
		})
	}
}

func TestLocalTimesHaveTheirOffset(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.inOut("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")
	s := w.day("2026-10-24").Sessions[0]
	if got := s.In.At.Format(time.RFC3339) + " " + s.Out.At.Format(time.RFC3339); got != "2026-10-25T02:30:00+02:00 2026-10-25T02:30:00+01:00" {
		t.Errorf("the session is %s, want both 02:30 with their offsets", got)
	}
}

// TestShiftInTheMissingHour holds that a shift at a local time that does not exist begins when its clocks go on.
func TestShiftInTheMissingHour(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(`{"schedule":"s","effective_from":"2026-01-05","cycle_start":"2026-03-29","cycle":[{"start":"02:30","end":"10:00"},null,null,null,null,null,null]}`)
	w.inOut("2026-03-29T03:30:00+02:00", "2026-03-29T10:00:00+02:00")
	w.wants(want{"2026-03-29", attendance.Present, "6h30m", nil})
	if d := w.day("2026-03-29"); !d.Shifts[0].Start.Equal(at(t, "2026-03-29T03:30:00+02:00")) {
		t.Errorf("the shift begins at %s, want 03:30", d.Shifts[0].Start)
	}
}

func TestRepeatedHourCountsItsFirstTime(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(`{"schedule":"s","effective_from":"2026-01-05","cycle_start":"2026-10-25","cycle":[{"start":"02:30","end":"10:00"},null,null,null,null,null,null]}`)
	if d := w.day("2026-10-25"); !d.Shifts[0].Start.Equal(at(t, "2026-10-25T02:30:00+02:00")) {
		t.Errorf("the shift begins at %s, want the first 02:30", d.Shifts[0].Start)
	}
}

// TestFoldsAroundMidnightDoNotDouble folds yesterday and today at instants around midnight in zones east and west of
// Greenwich. Each punch must be in one day, and no day may change.
func TestFoldsAroundMidnightDoNotDouble(t *testing.T) {
	for _, zone := range []string{"Asia/Kolkata", "Pacific/Auckland", "Pacific/Fiji", "America/Santiago", "America/Halifax", "Pacific/Honolulu"} {
		w := newWorld(t, zone)
		w.settings.Limits = attendance.Limits{}
		for _, d := range []string{"02", "03", "04"} {
			w.inOut("2026-11-"+d+" 15:00", "2026-11-"+d+" 23:59:59.9")
		}
		midnight := w.local("2026-11-05 00:00")
		for _, off := range []time.Duration{-time.Second, 0, time.Second, time.Hour, 3*time.Hour + 59*time.Minute} {
			w.now = midnight.Add(off)
			var punches int
			var worked int64
			for _, d := range w.fold("2026-10-30", "2026-11-08") {
				punches += d.Inputs.Punches
				worked += d.Totals.Worked
			}
			for _, date := range []string{"2026-11-02", "2026-11-03", "2026-11-04"} {
				if d := w.day(date); seconds(d.Totals.Worked) != 9*time.Hour-time.Second {
					t.Errorf("%s at midnight %s, %s: worked %s", zone, off, date, seconds(d.Totals.Worked))
				}
			}
			if punches != 6 || seconds(worked) != 3*(9*time.Hour-time.Second) {
				t.Errorf("%s at midnight %s: %d punches and %s in all days, want 6 and 26h59m57s", zone, off, punches, seconds(worked))
			}
		}
	}
}

func TestTerminalWithAWrongYearHarmsNoGoodDay(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.inOut("2026-11-02 08:00", "2026-11-02 17:00")
	w.now = w.local("2026-11-02 18:00")
	for _, when := range []string{"1970-01-01 06:10", "2000-01-01 00:10", "2063-04-05 12:00"} {
		w.punchAt(in, when, "faulty")
		w.line.Punches[len(w.line.Punches)-1].Review = when < "2063"
	}
	w.wants(want{"2026-11-02", attendance.Present, "9h", nil})
	for date, reason := range map[string]attendance.Mark{
		"1970-01-01": attendance.MarkNeedsReview, "1999-12-31": attendance.MarkNeedsReview, "2063-04-05": attendance.MarkFuturePunch,
	} {
		d := w.day(date)
		if len(d.Sessions) != 0 || len(d.Unpaired) != 1 || d.Unpaired[0].Reason != reason {
			t.Errorf("%s: sessions %v, unpaired %v; want no session, and one punch with %s", date, d.Sessions, d.Unpaired, reason)
		}
	}
	// A correction moves the punch of 1970 to its true time. It counts from then on.
	by := w.local("2026-11-03 08:00").Unix() - w.local("1970-01-01 06:10").Unix()
	w.correct(attendance.Correction{Op: attendance.OpShift, Source: "faulty", BySeconds: by,
		From: at(t, "1970-01-01T00:00:00Z").Add(-24 * time.Hour), Until: at(t, "1970-01-02T00:00:00Z")})
	w.now = w.local("2026-11-03 09:00")
	w.wants(want{"2026-11-03", attendance.Working, "0s", marks{attendance.MarkCorrected}})
	start, end := w.rules().Window(mustDate(t, "2026-11-03"), mustDate(t, "2026-11-03"))
	spans := attendance.PunchSpans(start, end, w.line.Corrections)
	if old := w.local("1970-01-01 06:10"); len(spans) != 2 || spans[1].From.After(old) || !spans[1].Until.After(old) {
		t.Errorf("spans of the window are %v, want one with the punch of 1970", spans)
	}
}

func TestTerminalTwoHoursAheadForAMorning(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.punchAt(in, "2026-11-02 10:00", "gate-7") // really 08:00
	w.punchAt(out, "2026-11-02 17:00", "gate-7")
	w.wants(want{"2026-11-02", attendance.Late, "7h", marks{attendance.MarkLate}})
	w.correct(attendance.Correction{Op: attendance.OpShift, Source: "gate-7", BySeconds: -2 * 3600,
		From: w.local("2026-11-02 06:00"), Until: w.local("2026-11-02 15:00")})
	w.wants(want{"2026-11-02", attendance.Present, "9h", marks{attendance.MarkCorrected}})
	if text := w.explain("2026-11-02"); !strings.Contains(text, "recorded as in at 2026-11-02 10:00:00.000 +01:00") {
		t.Errorf("the explanation does not show the recorded time:\n%s", text)
	}
}

func TestPunchesThreeDaysLateMakeAnAdjustment(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.punch(in, "2026-11-02 08:00")
	w.settings.MissingOut = attendance.CountNothing
	w.now = w.local("2026-11-04 00:00")
	paid := w.day("2026-11-02")
	w.punchAt(out, "2026-11-02 17:00", "gate-9") // arrives on the 5th
	w.now = w.local("2026-11-05 12:00")
	late := w.day("2026-11-02")
	if diff := late.Totals.Minus(paid.Totals); seconds(diff.Worked) != 9*time.Hour || paid.Totals.Plus(diff) != late.Totals {
		t.Errorf("the adjustment is %+v, want 9 hours", diff)
	}
	if paid.Inputs.Digest == late.Inputs.Digest || late.Inputs.Punches != 2 {
		t.Errorf("inputs before %+v and after %+v, want another digest", paid.Inputs, late.Inputs)
	}
}
