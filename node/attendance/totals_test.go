package attendance_test

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/attendance"
)

func TestRoundingIsInTotalsAlone(t *testing.T) {
	for mode, rounded := range map[attendance.RoundingMode]string{
		attendance.RoundDown: "16h45m", attendance.RoundNearest: "17h", attendance.RoundUp: "17h15m",
	} {
		w := newWorld(t, "Europe/Berlin")
		w.roster(`{"schedule":"r","effective_from":"2026-01-05","cycle_start":"2026-11-02","cycle":[null],"rounding":{"minutes":15,"mode":"` + string(mode) + `"},
			"premiums":[{"premium":"z","start":"08:00","end":"09:00"},{"premium":"a","start":"09:00","end":"10:00"}]}`)
		w.inOut("2026-11-02 08:00", "2026-11-02 16:07:30") // half of 15 minutes rounds up
		w.inOut("2026-11-03 08:00", "2026-11-03 16:52")
		days := w.fold("2026-11-02", "2026-11-03")
		if days[0].Totals.Worked != 8*3600+450 {
			t.Errorf("the day has %s, want the exact value", seconds(days[0].Totals.Worked))
		}
		sum := attendance.Sum(days)
		if seconds(sum.Worked) != 16*time.Hour+59*time.Minute+30*time.Second || seconds(sum.WorkedRounded) != duration(t, rounded) {
			t.Errorf("%s: worked %s, rounded %s; want 16h59m30s, %s", mode, seconds(sum.Worked), seconds(sum.WorkedRounded), rounded)
		}
		if want := []attendance.Amount{{"a", 7200}, {"z", 7200}}; !reflect.DeepEqual(sum.Premiums, want) {
			t.Errorf("premiums %v, want %v", sum.Premiums, want)
		}
	}
	w := newWorld(t, "Europe/Berlin") // off by default
	w.inOut("2026-11-02 08:00", "2026-11-02 16:07:29")
	if sum := attendance.Sum(w.fold("2026-11-02", "2026-11-02")); sum.WorkedRounded != sum.Worked {
		t.Errorf("rounded %d, want %d", sum.WorkedRounded, sum.Worked)
	}
}

func TestSumSaysWhatMayStillChange(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(officeHours)
	w.now = w.local("2026-11-03 10:00")
	w.line.Sources = []attendance.Source{{Name: "gate", CompleteUntil: w.now}, {Name: "kiosk", CompleteUntil: w.local("2026-11-03 07:51")}}
	w.inOut("2026-11-02 08:00", "2026-11-02 17:00")
	sum := attendance.Sum(w.fold("2026-11-02", "2026-11-03"))
	if sum.Days != 2 || sum.NotKnownYet != 1 || sum.Provisional != 1 || !sum.CompleteUntil.Equal(w.local("2026-11-03 07:51")) {
		t.Errorf("%+v, want 2 days, one not known yet, one provisional, complete until 07:51", sum)
	}
}

func TestRoundingIsWithinItsUnit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &attendance.Rounding{Minutes: rapid.IntRange(1, 60).Draw(t, "minutes")}
		r.Mode = rapid.SampledFrom([]attendance.RoundingMode{attendance.RoundDown, attendance.RoundNearest, attendance.RoundUp}).Draw(t, "mode")
		exact := rapid.Int64Range(0, 200_000).Draw(t, "seconds")
		unit := int64(r.Minutes) * 60
		got := r.Round(exact)
		least, most := exact-unit+1, exact+unit-1
		switch r.Mode {
		case attendance.RoundDown:
			most = exact
		case attendance.RoundUp:
			least = exact
		default:
			least, most = exact-unit/2, exact+unit/2
		}
		if got%unit != 0 || got < least || got > most {
			t.Fatalf("%d seconds round %s to %d by %d", exact, r.Mode, got, unit)
		}
	})
}

func TestDates(t *testing.T) {
	for s, weekday := range map[string]time.Weekday{"1970-01-01": time.Thursday, "2026-11-02": time.Monday, "2000-02-29": time.Tuesday, "2199-12-31": time.Tuesday} {
		d := mustDate(t, s)
		if d.String() != s || d.Weekday() != weekday || d.Time().Weekday() != weekday {
			t.Errorf("%s is %s, a %s; want a %s", s, d, d.Weekday(), weekday)
		}
	}
	for _, s := range []string{"", "2026-02-29", "2026-1-1", "26-01-01", "1969-12-31", "2200-01-01", "2026-01-01T00:00:00Z"} {
		if d, err := attendance.ParseDate(s); err == nil {
			t.Errorf("ParseDate(%q) = %s, want an error", s, d)
		}
	}
	for _, s := range []string{"", "8:00", "08:60", "24:01", "-1:00", "08:00:00", "0a:00", "08-00"} {
		if c, err := attendance.ParseClock(s); err == nil {
			t.Errorf("ParseClock(%q) = %s, want an error", s, c)
		}
	}
	if c, err := attendance.ParseClock("24:00"); err != nil || c.String() != "24:00" {
		t.Errorf("ParseClock(24:00) = %s, %v", c, err)
	}
	loc := mustZone(t, "Pacific/Auckland")
	if d := attendance.DateOf(time.Date(2026, 11, 3, 1, 0, 0, 0, loc)); d.String() != "2026-11-03" {
		t.Errorf("the date in Auckland is %s", d)
	}
}
