package attendance_test

import (
	"time"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
)

// tester is a test or a property.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func mustZone(tb tester, name string) *time.Location {
	tb.Helper()
	loc, err := zone.Load(name)
	if err != nil {
		tb.Fatal(err)
	}
	return loc
}

func mustDate(tb tester, s string) attendance.Date {
	tb.Helper()
	d, err := attendance.ParseDate(s)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// at reads a time with its offset.
func at(tb tester, s string) time.Time {
	tb.Helper()
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// id makes a different id for each number, the same in every run.
func id(n int) attendance.ID {
	var id attendance.ID
	id[0], id[1], id[2] = byte(n>>16), byte(n>>8), byte(n)
	id[6], id[8] = 0x70, 0x80
	return id
}

// world is a company with one employee. Times without an offset are local times in its zone.
type world struct {
	tb       tester
	loc      *time.Location
	settings attendance.Settings
	set      attendance.RuleSet
	line     attendance.Timeline
	now      time.Time
}

// newWorld has the default settings, no schedule, and a terminal "gate" that has reported until a distant now.
func newWorld(tb tester, zoneName string) *world {
	w := &world{tb: tb, loc: mustZone(tb, zoneName), settings: attendance.DefaultSettings(zoneName)}
	w.now = at(tb, "2030-01-01T00:00:00Z")
	w.line = attendance.Timeline{Company: "acme", Employee: "anna", Sources: []attendance.Source{{Name: "gate", CompleteUntil: w.now}}}
	return w
}

// local reads a local time such as "2026-11-02 08:00" or "2026-11-02 08:00:59.9", or a time with an offset.
func (w *world) local(s string) time.Time {
	w.tb.Helper()
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05.999999"} {
		if t, err := time.ParseInLocation(layout, s, w.loc); err == nil {
			return t
		}
	}
	return at(w.tb, s)
}

// punch adds a punch of the terminal "gate" and returns its id.
func (w *world) punch(kind punch.Kind, when string) attendance.ID {
	w.tb.Helper()
	return w.punchAt(kind, when, "gate")
}

func (w *world) punchAt(kind punch.Kind, when, source string) attendance.ID {
	w.tb.Helper()
	p := attendance.Punch{ID: id(len(w.line.Punches) + 1), Kind: kind, At: w.local(when), Source: source}
	w.line.Punches = append(w.line.Punches, p)
	return p.ID
}

// inOut adds an in and an out.
func (w *world) inOut(in, out string) {
	w.tb.Helper()
	w.punch(punch.In, in)
	w.punch(punch.Out, out)
}

// correct adds an accepted correction. Later calls make later corrections.
func (w *world) correct(c attendance.Correction) attendance.ID {
	w.tb.Helper()
	n := len(w.line.Corrections)
	c.ID, c.MadeAt = id(1<<20+n), w.now.Add(time.Duration(n-1000)*time.Second)
	if c.Decision == "" {
		c.Decision = attendance.Accepted
	}
	if c.WorkDate == 0 {
		c.WorkDate = mustDate(w.tb, "2026-11-02")
	}
	c.Reason, c.Author = "test", "meg"
	if err := c.Validate(); err != nil {
		w.tb.Fatal(err)
	}
	w.line.Corrections = append(w.line.Corrections, c)
	return c.ID
}

// roster assigns a schedule with one version from 2026-01-05, a Monday, from the start on.
func (w *world) roster(text string) {
	w.tb.Helper()
	s, err := attendance.ParseSchedule([]byte(text))
	if err != nil {
		w.tb.Fatalf("schedule %s: %v", text, err)
	}
	w.set.Schedules = append(w.set.Schedules, s)
	w.line.Assignments = append(w.line.Assignments, attendance.Assignment{From: attendance.MinDate, Schedule: s.Name})
}

const (
	officeHours = `{"schedule":"office","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[
		{"start":"08:00","end":"17:00"},{"start":"08:00","end":"17:00"},{"start":"08:00","end":"17:00"},
		{"start":"08:00","end":"17:00"},{"start":"08:00","end":"17:00"},null,null],
		"grace":{"late_minutes":5,"early_minutes":5}}`
	nights = `{"schedule":"nights","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[{"start":"18:30","end":"07:10"}]}`
)

func (w *world) rules() *attendance.Rules {
	w.tb.Helper()
	set := w.set
	set.Settings = []attendance.Settings{w.settings}
	r, err := attendance.NewRules(set)
	if err != nil {
		w.tb.Fatal(err)
	}
	return r
}

// fold returns the days from a date to another.
func (w *world) fold(from, to string) []attendance.Day {
	w.tb.Helper()
	w.line.From, w.line.To = mustDate(w.tb, from), mustDate(w.tb, to)
	return attendance.Fold(w.line, w.rules(), w.now)
}

// day returns one day.
func (w *world) day(date string) attendance.Day {
	w.tb.Helper()
	return w.fold(date, date)[0]
}

// want is what a case expects of a day. Marks must be exactly these.
type want struct {
	date   string
	status attendance.Status
	worked string // duration
	marks  []attendance.Mark
}

func (w *world) wants(all ...want) {
	w.tb.Helper()
	for _, x := range all {
		w.tb.Helper()
		d := w.day(x.date)
		if d.Status != x.status || seconds(d.Totals.Worked) != duration(w.tb, x.worked) || !sameMarks(d.Marks, x.marks) {
			w.tb.Errorf("%s: %s, worked %s, marks %v; want %s, %s, %v\n%s", x.date, d.Status, seconds(d.Totals.Worked), d.Marks,
				x.status, x.worked, x.marks, w.explain(x.date))
		}
	}
}

func (w *world) explain(date string) string {
	e := attendance.Explain(w.line, w.rules(), w.now, mustDate(w.tb, date))
	return e.String()
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

func duration(tb tester, s string) time.Duration {
	tb.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func sameMarks(got, want []attendance.Mark) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if got[i] != want[i] {
			return false
		}
	}
	return true
}

func kindOf(key string) punch.Kind { return punch.Kind(key) }
