package attendance_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
)

const fullSchedule = `{"schedule":"all","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[{"start":"22:00","end":"06:00","target_minutes":450},
	{"start":"08:00","end":"24:00","flexible":true},null],"day_boundary":"12:00","calendar":"de","grace":{"late_minutes":5,"early_minutes":3},
	"breaks":[{"after_minutes":360,"minutes":30,"deduct":true},{"after_minutes":540,"minutes":45}],
	"overtime":{"daily_after_minutes":480,"weekly_after_minutes":2400},
	"premiums":[{"premium":"night","start":"22:00","end":"06:00"},{"premium":"sunday","weekdays":["sunday"]},{"premium":"feast","holidays":true}],
	"rounding":{"minutes":15,"mode":"nearest"}}`

// with returns the smallest schedule with one member more.
func with(member string) string {
	return `{"schedule":"s","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[null],` + member + `}`
}

func without(member string) string { return strings.Replace(with(`"calendar":"de"`), member, "", 1) }

func TestParseScheduleNamesTheField(t *testing.T) {
	for _, good := range []string{fullSchedule, with(`"calendar":"de"`), with(`"breaks":[]`)} {
		if _, err := attendance.ParseSchedule([]byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, c := range []struct{ text, field, message string }{
		{``, "", "must be a JSON object"},
		{`null`, "", "must be a JSON object"},
		{`[]`, "", "must be a JSON object"},
		{`{"schedule":`, "schedule", "must be JSON"},
		{with(`"shift":1`), "shift", "is unknown"},
		{with(`"schedule":"t"`), "schedule", "only once"},
		{without(`"schedule":"s",`), "schedule", "must be 1 to 64"},
		{without(`"effective_from":"2026-01-05",`), "", ""}, // 1970-01-01: from the start
		{without(`"cycle":[null],`), "cycle", "must be from 1 to 366 days, is 0"},
		{with(`"calendar":"d e"`), "calendar", "must be 1 to 64"},
		{with(`"day_boundary":"12:01"`), "day_boundary", "must be from 0 to 720"},
		{with(`"day_boundary":"4:00"`), "day_boundary", "must be a time of day"},
		{with(`"grace":{"late_minutes":-1}`), "grace.late_minutes", "must be from 0 to 1440 minutes, is -1"},
		{with(`"grace":{"late":1}`), "grace.late", "is unknown"},
		{with(`"grace":[]`), "grace", "must not be a JSON array"},
		{with(`"grace":{"late_minutes":1.5}`), "grace.late_minutes", "must not be a JSON number"},
		{with(`"breaks":[{"after_minutes":0,"minutes":0}]`), "breaks[0].minutes", "must be from 1 to 480"},
		{with(`"breaks":[{"after_minutes":60,"minutes":5},{"after_minutes":60,"minutes":9}]`), "breaks[1].after_minutes", "must be more than the 60"},
		{with(`"overtime":{"weekly_after_minutes":10081}`), "overtime.weekly_after_minutes", "is 10081"},
		{with(`"premiums":[{"premium":"a"}]`), "premiums[0]", "must have start and end, weekdays, or holidays"},
		{with(`"premiums":[{"premium":"a","start":"08:00"}]`), "premiums[0]", "both start and end"},
		{with(`"premiums":[{"premium":"a","holidays":true},{"premium":"a","holidays":true}]`), "premiums[1].premium", "only once"},
		{with(`"premiums":[{"premium":"a","weekdays":["sonntag"]}]`), "premiums[0].weekdays[0]", "must be a day such as monday"},
		{with(`"premiums":[{"premium":"a","weekdays":["sunday","sunday"]}]`), "premiums[0].weekdays", "at most once"},
		{with(`"premiums":[{"premium":"a","start":"24:00","end":"06:00"}]`), "premiums[0].start", "must be from 0 to 1439"},
		{with(`"rounding":{"minutes":0,"mode":"up"}`), "rounding.minutes", "must be from 1 to 60"},
		{with(`"rounding":{"minutes":5,"mode":"sideways"}`), "rounding.mode", "must be one of"},
		{strings.Replace(with(`"calendar":"de"`), "[null]", `[null,{"start":"08:00","end":"25:00"}]`, 1), "cycle[1].end", "must be a time of day"},
		{strings.Replace(with(`"calendar":"de"`), "[null]", `[{"start":"24:00","end":"08:00"}]`, 1), "cycle[0].start", "must be from 0 to 1439"},
		{strings.Replace(with(`"calendar":"de"`), `"cycle_start":"2026-01-05"`, `"cycle_start":"2026-02-30"`, 1), "cycle_start", "must be a date"},
		{with(`"calendar":"` + strings.Repeat("a", attendance.MaxRulesText) + `"`), "", "must be at most 65536 bytes"},
	} {
		_, err := attendance.ParseSchedule([]byte(c.text))
		if c.message == "" {
			if err != nil {
				t.Errorf("%.200s: %v", c.text, err)
			}
			continue
		}
		var e *punch.Error
		if !errors.As(err, &e) || e.Field != c.field || !strings.Contains(e.Message, c.message) || !e.Code.Final() {
			t.Errorf("%.200s: %v; want field %q and %q", c.text, err, c.field, c.message)
		}
	}
}

func TestParseSettings(t *testing.T) {
	s, err := attendance.ParseSettings([]byte(`{"zone":"Asia/Tokyo","limits":{"rest_minutes":0}}`))
	if err != nil || s.DoubleTapSeconds != 60 || s.Limits.DayMinutes != 600 || s.Limits.RestMinutes != 0 || s.WeekStart.String() != "monday" {
		t.Errorf("settings %+v, %v; want the defaults and no rest", s, err)
	}
	for text, field := range map[string]string{
		`{}`:                                             "zone",
		`{"zone":"Mars/Base"}`:                           "zone",
		`{"zone":"UTC","pairing":"guess"}`:               "pairing",
		`{"zone":"UTC","work_date":"noon"}`:              "work_date",
		`{"zone":"UTC","missing_out":"x"}`:               "missing_out",
		`{"zone":"UTC","double_tap_seconds":901}`:        "double_tap_seconds",
		`{"zone":"UTC","longest_session_minutes":1441}`:  "longest_session_minutes",
		`{"zone":"UTC","silent_after_minutes":0}`:        "silent_after_minutes",
		`{"zone":"UTC","limits":{"week_minutes":20000}}`: "limits.week_minutes",
		`{"zone":"UTC","week_start":"Monday"}`:           "week_start",
		`{"zone":"UTC","day_boundary":"18:00"}`:          "day_boundary",
		`{"zone":"UTC","effective_from":"1969-12-31"}`:   "effective_from",
		`{"zone":"UTC","calendar":"/"}`:                  "calendar",
		`{"zone":"UTC","limits":{"rest":1}}`:             "limits.rest",
	} {
		if _, err := attendance.ParseSettings([]byte(text)); punch.AsError(err).Field != field || punch.CodeOf(err) != punch.Invalid {
			t.Errorf("%s: %v, want an invalid %s", text, err, field)
		}
	}
}

func TestNewRulesRefusesWhatIsAmbiguous(t *testing.T) {
	settings := attendance.DefaultSettings("UTC")
	schedule, err := attendance.ParseSchedule([]byte(fullSchedule))
	if err != nil {
		t.Fatal(err)
	}
	holiday := attendance.Holiday{Calendar: "de", Date: 20000, Name: "A", Part: attendance.Full}
	bad := schedule
	bad.Cycle = nil
	for field, set := range map[string]attendance.RuleSet{
		"settings":       {},
		"effective_from": {Settings: []attendance.Settings{settings, settings}},
		"holidays":       {Settings: []attendance.Settings{settings}, Holidays: []attendance.Holiday{holiday, holiday}},
		"cycle":          {Settings: []attendance.Settings{settings}, Schedules: []attendance.Schedule{bad}},
		"calendar":       {Settings: []attendance.Settings{settings}, Holidays: []attendance.Holiday{{}}},
	} {
		if _, err := attendance.NewRules(set); punch.AsError(err).Field != field || punch.CodeOf(err) != punch.Invalid {
			t.Errorf("%v, want an invalid %s", err, field)
		}
	}
	twice := attendance.RuleSet{Settings: []attendance.Settings{settings}, Schedules: []attendance.Schedule{schedule, schedule}}
	if _, err := attendance.NewRules(twice); punch.AsError(err).Field != "effective_from" {
		t.Errorf("two versions from one date: %v", err)
	}
}

// FuzzParseSchedule holds that a schedule that was read can be written, read again and folded.
func FuzzParseSchedule(f *testing.F) {
	f.Add([]byte(fullSchedule))
	f.Add([]byte(officeHours))
	f.Add([]byte(nights))
	f.Add([]byte(with(`"grace":{"late":1}`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := attendance.ParseSchedule(text)
		if err != nil {
			var e *punch.Error
			if !errors.As(err, &e) || e.Message == "" || len(e.Field) > punch.MaxName || !e.Code.Final() {
				t.Fatalf("error %v, want a final one that says what is wrong", err)
			}
			return
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := attendance.ParseSchedule(written)
		if err != nil {
			t.Fatalf("%s was written as %s: %v", text, written, err)
		}
		if rewritten, err := json.Marshal(again); err != nil || string(rewritten) != string(written) {
			t.Fatalf("%s became %s, %v", written, rewritten, err)
		}
		w := newWorld(t, "Europe/Berlin")
		w.set.Schedules = append(w.set.Schedules, s)
		w.line.Assignments = []attendance.Assignment{{From: attendance.MinDate, Schedule: s.Name}}
		w.inOut("2026-10-24 20:00", "2026-10-25 07:00")
		for _, d := range w.fold("2026-10-22", "2026-10-28") {
			if d.Totals.Worked < 0 || d.Totals.Target < 0 || d.Totals.AutomaticBreak < 0 {
				t.Fatalf("%s: %+v of %s", d.Date, d.Totals, written)
			}
		}
	})
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(`{"zone":"Europe/Berlin","pairing":"alternating","day_boundary":"00:00","week_start":"sunday"}`))
	f.Add([]byte(`{"zone":"UTC","limits":{"rest_minutes":0}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := attendance.ParseSettings(text)
		if err != nil {
			var e *punch.Error
			if !errors.As(err, &e) || e.Message == "" || len(e.Field) > punch.MaxName {
				t.Fatalf("error %v, want one that says what is wrong", err)
			}
			return
		}
		written, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := attendance.ParseSettings(written); err != nil || again != s {
			t.Fatalf("%s became %+v, %v", written, again, err)
		}
	})
}

// TestDaysSurviveJSON holds that stored days are read as they were written.
func TestDaysSurviveJSON(t *testing.T) {
	w := newWorld(t, "Europe/Berlin")
	w.roster(fullSchedule)
	w.line.Absences = []attendance.Absence{{Date: mustDate(t, "2026-11-03"), Kind: "leave", Part: attendance.FirstHalf}}
	w.inOut("2026-11-02 20:00", "2026-11-03 07:00")
	w.punch(breakStart, "2026-11-02 23:00")
	w.punch(breakEnd, "2026-11-02 23:10")
	w.punch(out, "2026-11-03 22:00:00.25")
	days := w.fold("2026-11-01", "2026-11-05")
	text, err := json.Marshal(days)
	if err != nil {
		t.Fatal(err)
	}
	var again []attendance.Day
	if err := json.Unmarshal(text, &again, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	rewritten, err := json.Marshal(again)
	if err != nil || string(rewritten) != string(text) {
		t.Errorf("days\n%s became\n%s, %v", text, rewritten, err)
	}
	if was, is := attendance.Sum(days), attendance.Sum(again); was.Totals != is.Totals || !was.CompleteUntil.Equal(is.CompleteUntil) {
		t.Errorf("the totals were %+v and are %+v", was, is)
	}
	if !strings.Contains(string(text), `"at":"2026-11-03T22:00:00.25+01:00"`) {
		t.Errorf("a time lacks its offset or its fraction: %s", text)
	}
}
