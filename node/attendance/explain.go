package attendance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Rule names a rule in an explanation.
type Rule string

// The rules, in the order of their steps.
const (
	ruleShift          Rule = "shift"
	ruleDoubleTap      Rule = "double_tap"
	rulePressed        Rule = "as_pressed"
	ruleSameInstant    Rule = "same_instant"
	ruleNextIn         Rule = "next_in"
	ruleAlternate      Rule = "alternating"
	ruleFirstLast      Rule = "first_last"
	ruleBetween        Rule = "between_first_and_last"
	ruleLongest        Rule = "longest_session"
	ruleMissingOut     Rule = "missing_out"
	ruleWorkDate       Rule = "work_date"
	ruleUnpaired       Rule = "unpaired"
	ruleUnion          Rule = "union"
	rulePressedBreak   Rule = "pressed_break"
	ruleAutomaticBreak Rule = "automatic_break"
	ruleMissingBreak   Rule = "missing_break"
	ruleWorked         Rule = "worked"
	ruleLate           Rule = "late"
	ruleEarly          Rule = "left_early"
	ruleOvertimeDaily  Rule = "overtime_daily"
	ruleOvertimeWeekly Rule = "overtime_weekly"
	rulePremium        Rule = "premium"
	ruleLongDay        Rule = "long_day"
	ruleLongWeek       Rule = "long_week"
	ruleShortRest      Rule = "short_rest"
	ruleStatus         Rule = "status"
)

// meaning says what each rule has done.
var meaning = map[Rule]string{
	ruleShift:          "the shift that is expected, after leave, holidays and employment",
	ruleDoubleTap:      "repeats the punch before it within the gap for double taps",
	rulePressed:        "counts as pressed",
	ruleSameInstant:    "in and out at one instant make a session without length",
	ruleNextIn:         "another in came before an out, so the out is missing",
	ruleAlternate:      "keys are not trusted: punches of a day come and go in turn",
	ruleFirstLast:      "the first punch of a day comes, the last one goes",
	ruleBetween:        "lies between the first and the last punch",
	ruleLongest:        "no out came before the longest session ended",
	ruleMissingOut:     "the session without an out counts by this rule",
	ruleWorkDate:       "the session belongs to this date by this rule",
	ruleUnpaired:       "does not count",
	ruleUnion:          "time that another session covers counts once",
	rulePressedBreak:   "break as pressed",
	ruleAutomaticBreak: "deducted, because the required break was not taken in full",
	ruleMissingBreak:   "missing of the required break",
	ruleWorked:         "worked, without breaks",
	ruleLate:           "late by more than the grace",
	ruleEarly:          "left early by more than the grace",
	ruleOvertimeDaily:  "above the daily limit of the schedule",
	ruleOvertimeWeekly: "above the weekly limit of the schedule",
	rulePremium:        "work under this premium",
	ruleLongDay:        "more work on a date than the limit",
	ruleLongWeek:       "more work in the week than the limit",
	ruleShortRest:      "less rest since the last session than the limit",
	ruleStatus:         "the status of the day",
}

// Applied is one rule that made a day what it is.
type Applied struct {
	Rule    Rule      `json:"rule"`
	Meaning string    `json:"meaning"`
	Punch   ID        `json:"punch,omitzero"`
	From    time.Time `json:"from,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Seconds int64     `json:"seconds,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// Evidence is a punch as it was recorded and as it counts.
type Evidence struct {
	Stamp
	RecordedKind punch.Kind `json:"recorded_kind"`
	RecordedAt   time.Time  `json:"recorded_at"`
	Void         bool       `json:"void,omitempty"`
	Added        bool       `json:"added,omitempty"` // by a correction
}

// Explanation says how a day came about.
type Explanation struct {
	Day         Day          `json:"day"`
	Punches     []Evidence   `json:"punches"`
	Corrections []Correction `json:"corrections"` // of the date or of its punches, also refused ones
	Applied     []Applied    `json:"applied"`
}

// Explain folds one date and returns the day with every rule that made it.
func Explain(t Timeline, r *Rules, now time.Time, date Date) Explanation {
	t.From, t.To = date, date
	f := newFolding(t, r, now, nil)
	f.trace = &trace{f: f}
	e := Explanation{Day: f.run()[0]}
	known := e.Day.punches()
	loc := f.plans[f.index(date)].loc
	for i := range f.events {
		at := &f.events[i]
		if at.plan != f.index(date) && !known[at.id] {
			continue
		}
		known[at.id] = true
		e.Punches = append(e.Punches, Evidence{
			Stamp:        Stamp{ID: at.id, Kind: at.kind, At: time.UnixMicro(at.micro).In(loc), Source: at.source},
			RecordedKind: at.pressed, RecordedAt: time.UnixMicro(at.recorded).In(loc), Void: at.skip == skipVoid, Added: at.added,
		})
	}
	e.addCorrections(t.Corrections, known, date)
	for i := range f.trace.list {
		if a := &f.trace.list[i]; a.date == date || known[a.punch] {
			e.Applied = append(e.Applied, a.applied(loc))
		}
	}
	return e
}

// addCorrections adds the corrections of the date and of its punches, in their order.
func (e *Explanation) addCorrections(all []Correction, known map[ID]bool, date Date) {
	for _, c := range all {
		shifts := c.Op == OpShift && slices.ContainsFunc(e.Punches, func(p Evidence) bool {
			return p.Source == c.Source && !p.RecordedAt.Before(c.From) && p.RecordedAt.Before(c.Until)
		})
		if c.WorkDate == date || shifts || known[c.Target] || known[c.ID] {
			e.Corrections = append(e.Corrections, c)
		}
	}
	slices.SortFunc(e.Corrections, func(a, b Correction) int { return a.MadeAt.Compare(b.MadeAt) })
}

// punches returns the ids of the punches in the sessions and breaks of the day.
func (d *Day) punches() map[ID]bool {
	ids := make(map[ID]bool)
	add := func(s *Stamp) {
		if s != nil {
			ids[s.ID] = true
		}
	}
	for _, s := range d.Sessions {
		add(s.In)
		add(s.Out)
	}
	for _, b := range d.Breaks {
		add(b.From)
		add(b.To)
	}
	return ids
}

// trace collects entries. A nil trace collects nothing and costs nothing.
type trace struct {
	f    *folding
	list []traced
}

type entry struct {
	punch       ID
	from, until int64 // Unix microseconds
	seconds     int64
	detail      string
}

type traced struct {
	entry
	rule Rule
	date Date
}

func (t *trace) add(rule Rule, plan int, e entry) {
	if t != nil {
		t.addOn(rule, t.f.plans[plan].date, e)
	}
}

func (t *trace) addOn(rule Rule, date Date, e entry) {
	if t != nil {
		t.list = append(t.list, traced{e, rule, date})
	}
}

// between is an entry for a span of seconds.
func between(from, until int64) entry {
	return entry{from: from * 1e6, until: until * 1e6, seconds: until - from}
}

func (t *traced) applied(loc *time.Location) Applied {
	a := Applied{Rule: t.rule, Meaning: meaning[t.rule], Punch: t.punch, Seconds: t.seconds, Detail: t.detail}
	if t.from != 0 {
		a.From = time.UnixMicro(t.from).In(loc)
	}
	if t.until != 0 {
		a.Until = time.UnixMicro(t.until).In(loc)
	}
	return a
}

// String returns the explanation as lines of text for a terminal.
func (e *Explanation) String() string {
	var b strings.Builder
	d := &e.Day
	fmt.Fprintf(&b, "%s %s %s (%s): %s", d.Company, d.Employee, d.Date, d.Zone, d.Status)
	for _, m := range d.Marks {
		fmt.Fprintf(&b, ", %s", m)
	}
	b.WriteString("\n\npunches\n")
	for _, p := range e.Punches {
		fmt.Fprintf(&b, "  %s  %-11s %s  %s", p.At.Format(timeLayout), p.Kind, p.ID, p.Source)
		switch {
		case p.Void:
			b.WriteString("  removed by a correction")
		case p.Added:
			b.WriteString("  added by a correction")
		case p.Kind != p.RecordedKind || !p.At.Equal(p.RecordedAt):
			fmt.Fprintf(&b, "  recorded as %s at %s", p.RecordedKind, p.RecordedAt.Format(timeLayout))
		}
		b.WriteString("\n")
	}
	b.WriteString("\ncorrections\n")
	for _, c := range e.Corrections {
		fmt.Fprintf(&b, "  %s  %-7s %s by %s: %s\n", c.MadeAt.UTC().Format(time.RFC3339), c.Op, c.Decision, c.Author, c.Reason)
	}
	b.WriteString("\nrules\n")
	for _, a := range e.Applied {
		fmt.Fprintf(&b, "  %s\n", a.text())
	}
	return b.String()
}

const timeLayout = "2006-01-02 15:04:05.000 -07:00"

func (a *Applied) text() string {
	s := fmt.Sprintf("%-22s", a.Rule)
	if !a.From.IsZero() {
		s += " " + a.From.Format(timeLayout)
	}
	if !a.Until.IsZero() {
		s += " to " + a.Until.Format(timeLayout)
	}
	if a.Seconds != 0 || a.Rule == ruleWorked {
		s += " " + (time.Duration(a.Seconds) * time.Second).String()
	}
	if a.Detail != "" {
		s += " " + a.Detail
	}
	return s + ": " + a.Meaning
}
