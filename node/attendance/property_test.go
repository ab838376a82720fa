package attendance_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
)

// The generated punches lie in these dates, around both changes of clocks in one zone or in none.
const (
	firstDate = "2026-10-19" // a Monday
	lastDate  = "2026-10-30"
	wideFrom  = "2026-10-14"
	wideTo    = "2026-11-05"
)

// generator draws worlds. Punches lie close together and at hours that matter, so rules meet.
type generator struct {
	t *rapid.T
	w *world
}

func draw(t *rapid.T) *world {
	zone := rapid.SampledFrom([]string{"Europe/Berlin", "UTC", "Australia/Lord_Howe", "Pacific/Kiritimati", "Pacific/Niue", "Asia/Kolkata"}).Draw(t, "zone")
	g := generator{t: t, w: newWorld(t, zone)}
	g.settings()
	g.roster()
	n := rapid.IntRange(0, 40).Draw(t, "punches")
	for range n {
		g.punch()
	}
	for range rapid.IntRange(0, 4).Draw(t, "corrections") {
		g.correction()
	}
	g.w.now = g.instant("now").Add(time.Duration(rapid.IntRange(0, 20*24).Draw(t, "later")) * time.Hour)
	g.w.line.Sources[0].CompleteUntil = g.w.now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "silent")) * time.Minute)
	return g.w
}

func (g *generator) settings() {
	s := &g.w.settings
	s.Pairing = rapid.SampledFrom([]attendance.Pairing{attendance.AsPressed, attendance.Alternating, attendance.FirstLast}).Draw(g.t, "pairing")
	s.WorkDate = rapid.SampledFrom([]attendance.WorkDate{attendance.ByStart, attendance.ByEnd, attendance.ByLongerPart, attendance.BySplit}).Draw(g.t, "work date")
	s.MissingOut = rapid.SampledFrom([]attendance.MissingOut{attendance.CountNothing, attendance.CountShift, attendance.CountLongest}).Draw(g.t, "missing out")
	s.LongestSessionMinutes = rapid.SampledFrom([]int{60, 600, 960, 1440}).Draw(g.t, "longest")
	s.DoubleTapSeconds = rapid.SampledFrom([]int{0, 60, 900}).Draw(g.t, "gap")
	s.DayBoundary = attendance.Clock(rapid.SampledFrom([]int{0, 240, 720}).Draw(g.t, "boundary"))
}

func (g *generator) roster() {
	clock := rapid.SampledFrom([]string{"00:00", "02:30", "08:00", "12:00", "17:00", "18:30", "22:00", "23:59"})
	for i := range rapid.IntRange(0, 2).Draw(g.t, "schedules") {
		cycle := ""
		for j := range rapid.IntRange(1, 4).Draw(g.t, "cycle") {
			if j > 0 {
				cycle += ","
			}
			if rapid.Bool().Draw(g.t, "off") {
				cycle += "null"
				continue
			}
			cycle += fmt.Sprintf(`{"start":%q,"end":%q,"flexible":%t}`, clock.Draw(g.t, "start"), clock.Draw(g.t, "end"), rapid.Bool().Draw(g.t, "flexible"))
		}
		g.w.roster(fmt.Sprintf(`{"schedule":"s%d","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[%s],"grace":{"late_minutes":5},
			"breaks":[{"after_minutes":240,"minutes":30,"deduct":true}],"overtime":{"daily_after_minutes":480,"weekly_after_minutes":2400},
			"premiums":[{"premium":"night","start":"22:00","end":"06:00"}]}`, i, cycle))
		// The second schedule follows the first in the middle.
		g.w.line.Assignments[i].From += attendance.Date(i) * (mustDate(g.t, "2026-10-24") - attendance.MinDate)
	}
	if rapid.Bool().Draw(g.t, "leave") {
		g.w.line.Absences = append(g.w.line.Absences, attendance.Absence{
			Date: mustDate(g.t, "2026-10-22"), Kind: "leave",
			Part: rapid.SampledFrom([]attendance.Part{attendance.Full, attendance.FirstHalf, attendance.SecondHalf}).Draw(g.t, "part"),
		})
	}
}

func (g *generator) instant(label string) time.Time {
	day := mustDate(g.t, firstDate).Time().AddDate(0, 0, rapid.IntRange(0, 11).Draw(g.t, label+" day"))
	hour := rapid.SampledFrom([]int{0, 2, 3, 7, 8, 12, 17, 18, 22, 23}).Draw(g.t, label+" hour")
	minute := rapid.SampledFrom([]int{0, 0, 1, 30, 59}).Draw(g.t, label+" minute")
	second := rapid.SampledFrom([]int{0, 0, 20, 59}).Draw(g.t, label+" second")
	micro := rapid.SampledFrom([]int{0, 0, 500_000, 999_999}).Draw(g.t, label+" micro")
	return time.Date(day.Year(), day.Month(), day.Day(), hour, minute, second, micro*1000, g.w.loc)
}

func (g *generator) punch() {
	kind := rapid.SampledFrom([]punch.Kind{in, out, in, out, in, out, auto, breakStart, breakEnd}).Draw(g.t, "kind")
	source := rapid.SampledFrom([]string{"gate", "site", ""}).Draw(g.t, "source")
	p := attendance.Punch{ID: id(len(g.w.line.Punches) + 1), Kind: kind, At: g.instant("at"), Source: source}
	p.Review = rapid.IntRange(0, 19).Draw(g.t, "review") == 0
	g.w.line.Punches = append(g.w.line.Punches, p)
}

func (g *generator) correction() {
	if len(g.w.line.Punches) == 0 {
		return
	}
	target := g.w.line.Punches[rapid.IntRange(0, len(g.w.line.Punches)-1).Draw(g.t, "target")].ID
	op := rapid.SampledFrom([]attendance.Op{attendance.OpAdd, attendance.OpVoid, attendance.OpRetime, attendance.OpRekind, attendance.OpShift}).Draw(g.t, "op")
	c := attendance.Correction{Op: op, Kind: in, At: g.instant("correction")}
	switch op {
	case attendance.OpVoid, attendance.OpRetime, attendance.OpRekind:
		c.Target = target
	case attendance.OpShift:
		c.Source, c.From, c.BySeconds = "gate", g.instant("from"), 3600
		c.Until = c.From.Add(24 * time.Hour)
	}
	g.w.correct(c)
}

// wide folds all dates that a generated punch can touch.
func (w *world) wide() []attendance.Day {
	w.tb.Helper()
	return w.fold(wideFrom, wideTo)
}

func TestArrivalOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		want := w.wide()
		if again := w.wide(); !reflect.DeepEqual(again, want) {
			t.Fatalf("folded twice: %+v, want %+v", again, want)
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		line := &w.line
		line.Punches = append(slices.Clone(line.Punches), line.Punches...) // each arrives twice
		line.Corrections = append(slices.Clone(line.Corrections), line.Corrections...)
		r.Shuffle(len(line.Punches), func(i, j int) { line.Punches[i], line.Punches[j] = line.Punches[j], line.Punches[i] })
		r.Shuffle(len(line.Corrections), func(i, j int) {
			line.Corrections[i], line.Corrections[j] = line.Corrections[j], line.Corrections[i]
		})
		r.Shuffle(len(line.Assignments), func(i, j int) {
			line.Assignments[i], line.Assignments[j] = line.Assignments[j], line.Assignments[i]
		})
		if got := w.wide(); !reflect.DeepEqual(got, want) {
			t.Fatalf("in another order: %s", difference(got, want))
		}
	})
}

// difference names the first day that differs.
func difference(got, want []attendance.Day) string {
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			return fmt.Sprintf("%s is\n%+v, want\n%+v", want[i].Date, got[i], want[i])
		}
	}
	return "none"
}

// TestADayDoesNotDependOnTheFold holds that a day folded alone equals the day in a rebuild, and that punches outside its
// window change nothing.
func TestADayDoesNotDependOnTheFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		all := w.wide()
		i := rapid.IntRange(0, len(all)-1).Draw(t, "day")
		date := all[i].Date
		w.line.From, w.line.To = date, date
		rules := w.rules()
		start, end := rules.Window(date, date)
		inside := w.line
		inside.Punches = slices.DeleteFunc(slices.Clone(w.line.Punches), func(p attendance.Punch) bool {
			spans := attendance.PunchSpans(start, end, w.line.Corrections)
			needed := slices.ContainsFunc(w.line.Corrections, func(c attendance.Correction) bool { return c.Target == p.ID })
			return !needed && !slices.ContainsFunc(spans, func(s attendance.Span) bool { return !p.At.Before(s.From) && p.At.Before(s.Until) })
		})
		if got := attendance.Fold(inside, rules, w.now); !reflect.DeepEqual(got[0], all[i]) {
			t.Fatalf("folded alone: %s", difference(got, all[i:i+1]))
		}
		outside := w.line
		outside.Punches = slices.Clone(w.line.Punches)
		for n, at := range []time.Time{start.Add(-time.Microsecond), start.AddDate(-1, 0, 0), end, end.AddDate(30, 0, 0)} {
			outside.Punches = append(outside.Punches, attendance.Punch{ID: id(5000 + n), Kind: in, At: at, Source: "gate-x"})
		}
		if got := attendance.Fold(outside, rules, w.now); !reflect.DeepEqual(got[0], all[i]) {
			t.Fatalf("with punches outside its window: %s", difference(got, all[i:i+1]))
		}
	})
}

// TestAPunchChangesOnlyAffectedDays holds what a worker relies on: it folds no other date after a punch.
func TestAPunchChangesOnlyAffectedDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		g := generator{t: t, w: w}
		before := w.wide()
		g.punch()
		added := w.line.Punches[len(w.line.Punches)-1]
		from, to := w.rules().Affected(added.At)
		for _, c := range w.line.Corrections {
			if c.Op == attendance.OpShift { // moves it by an hour
				_, to = w.rules().Affected(added.At.Add(time.Hour))
			}
		}
		for i, d := range w.wide() {
			if (d.Date < from || d.Date > to) && !reflect.DeepEqual(d, before[i]) {
				t.Fatalf("a punch at %s, which affects %s to %s, changed %s from\n%+v to\n%+v", added.At, from, to, d.Date, before[i], d)
			}
		}
	})
}

// TestTimeIsConserved holds that all worked time and all breaks are the union of all sessions: no second is lost or paid
// twice.
func TestTimeIsConserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		var spans [][2]int64
		var counted int64
		for _, d := range w.wide() {
			day := d.Totals.Worked + d.Totals.Break + d.Totals.AutomaticBreak
			var own [][2]int64
			for _, s := range d.Sessions {
				own = append(own, [2]int64{s.Start.Unix(), s.End.Unix()})
			}
			if d.Totals.Worked < 0 || day > union(own) {
				t.Fatalf("%s: worked %d and breaks, %d in all, of sessions of %d seconds", d.Date, d.Totals.Worked, day, union(own))
			}
			next := time.Date(d.Date.Time().Year(), d.Date.Time().Month(), d.Date.Time().Day()+1, 0, 0, 0, 0, w.loc)
			length := next.Unix() - time.Date(d.Date.Time().Year(), d.Date.Time().Month(), d.Date.Time().Day(), 0, 0, 0, 0, w.loc).Unix()
			if w.settings.WorkDate == attendance.BySplit && day > length {
				t.Fatalf("%s: %d seconds in a day of %d", d.Date, day, length)
			}
			var premium int64
			for _, a := range d.Premiums {
				premium += a.Seconds
			}
			if premium > d.Totals.Worked {
				t.Fatalf("%s: %d seconds of premium in %d of work", d.Date, premium, d.Totals.Worked)
			}
			counted += day
			spans = append(spans, own...)
		}
		if counted != union(spans) {
			t.Fatalf("%d seconds in all days, %d in the union of all sessions", counted, union(spans))
		}
	})
}

// union returns the seconds in at least one span, counted at every end of a span.
func union(spans [][2]int64) (sum int64) {
	var ends []int64
	for _, s := range spans {
		ends = append(ends, s[0], s[1])
	}
	slices.Sort(ends)
	for i := 1; i < len(ends); i++ {
		if slices.ContainsFunc(spans, func(s [2]int64) bool { return s[0] <= ends[i-1] && ends[i] <= s[1] }) {
			sum += ends[i] - ends[i-1]
		}
	}
	return sum
}

// TestInputsOfEveryPunchAreInOneDay holds that a sweep finds every missing punch.
func TestInputsOfEveryPunchAreInOneDay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		days := w.wide()
		inputs := attendance.InputsOf(w.line, w.rules())
		punches := 0
		for _, d := range days {
			if inputs[d.Date] != d.Inputs {
				t.Fatalf("%s: inputs %+v of the sweep, %+v of the fold", d.Date, inputs[d.Date], d.Inputs)
			}
			punches += d.Inputs.Punches
		}
		added := 0
		for _, c := range w.line.Corrections {
			if c.Op == attendance.OpAdd {
				added++
			}
		}
		if want := len(w.line.Punches) + added; punches != want {
			t.Fatalf("%d punches in all days, want %d", punches, want)
		}
	})
}

// TestNothingChangesBeforeFoldAgainAt holds that a stored day is right until then.
func TestNothingChangesBeforeFoldAgainAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := draw(t)
		i := rapid.IntRange(0, 20).Draw(t, "day")
		day := w.wide()[i]
		until := day.FoldAgainAt
		if until.IsZero() {
			until = w.now.AddDate(1, 0, 0)
		}
		span := until.Sub(w.now) - time.Microsecond
		w.now = w.now.Add(time.Duration(rapid.Int64Range(0, max(int64(span), 0)).Draw(t, "wait")))
		later := w.wide()[i]
		later.Complete, day.Complete = attendance.Complete{}, attendance.Complete{} // readers see the present sources
		if !reflect.DeepEqual(later, day) {
			t.Fatalf("at %s, before %s: %s", w.now, until, difference([]attendance.Day{later}, []attendance.Day{day}))
		}
	})
}

// TestAMissingOutChangesNoLaterDay removes one out of regular weeks.
func TestAMissingOutChangesNoLaterDay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "Europe/Berlin")
		g := generator{t: t, w: w}
		g.settings()
		w.settings.Limits, w.settings.LongestSessionMinutes = attendance.Limits{}, 960
		w.settings.DayBoundary = 240
		w.roster(rapid.SampledFrom([]string{officeHours, nights}).Draw(t, "schedule"))
		night := w.set.Schedules[0].Name == "nights"
		var outs []int
		for day := range 12 {
			start := w.local(firstDate+" 08:00").AddDate(0, 0, day)
			end := start.Add(9 * time.Hour)
			if night {
				start, end = start.Add(10*time.Hour+20*time.Minute), start.Add(23*time.Hour)
			}
			jitter := time.Duration(rapid.IntRange(-20, 20).Draw(t, "jitter")) * time.Minute
			w.punch(in, start.Add(jitter).Format("2006-01-02 15:04"))
			w.punch(out, end.Add(jitter).Format("2006-01-02 15:04"))
			outs = append(outs, len(w.line.Punches)-1)
		}
		before := w.wide()
		k := rapid.IntRange(0, 11).Draw(t, "day")
		w.line.Punches = slices.Delete(w.line.Punches, outs[k], outs[k]+1)
		for i, d := range w.wide() {
			last := mustDate(t, firstDate) + attendance.Date(k)
			if night && w.settings.WorkDate != attendance.ByStart {
				last++ // the work date of the night
			}
			if d.Date > last && !reflect.DeepEqual(d, before[i]) {
				t.Fatalf("without the out of %s, %s changed from\n%+v to\n%+v", last, d.Date, before[i], d)
			}
		}
	})
}
