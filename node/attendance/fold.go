package attendance

import (
	"slices"
	"time"
)

// Fold returns the days of a timeline from From to To, in order. It depends on its arguments alone: not on the order of
// lists in the timeline, not on punches outside Rules.Window, and not on how many dates are folded at a time.
func Fold(t Timeline, r *Rules, now time.Time) []Day {
	if t.From > t.To {
		return nil
	}
	f := newFolding(t, r, now, nil)
	return f.run()
}

// folding is the work of one Fold. Each stage reads what earlier stages have left here.
type folding struct {
	in       Timeline
	rules    *Rules
	now      time.Time
	calcFrom Date // the begin of the first week: weekly rules need the days before From
	trace    *trace

	plans     []plan
	events    []event // in order
	ahead     []int   // events that lie too far after now to count
	counts    []int   // of punches, by plan
	digests   []digest
	taps      []tap
	breakTaps []tap
	sessions  []session
	lone      []int // events: outs and ends of breaks without a begin
	breaks    []breakSpan
	parts     []part
}

func newFolding(t Timeline, r *Rules, now time.Time, tr *trace) *folding {
	return &folding{in: t, rules: r, now: now, calcFrom: r.firstDate(t.From), trace: tr}
}

// stagesOfTimeline turn punches into dated sessions. They work on the whole timeline, because sessions and double taps
// do not stop at midnight.
var stagesOfTimeline = []func(*folding){
	(*folding).planDates,
	(*folding).collectEvents,
	(*folding).sumInputs,
	(*folding).mergeTaps,
	(*folding).pair,
	(*folding).endSessions,
	(*folding).dateSessions,
	(*folding).pairBreaks,
}

// stepsOfDay turn the sessions of one date into a day. The dates of a week are done in order.
var stepsOfDay = []func(*dayWork){
	(*dayWork).describe,
	(*dayWork).presence,
	(*dayWork).pressedBreaks,
	(*dayWork).automaticBreaks,
	(*dayWork).worked,
	(*dayWork).lateAndEarly,
	(*dayWork).overtime,
	(*dayWork).premiums,
	(*dayWork).legalMarks,
	(*dayWork).completeness,
	(*dayWork).status,
}

func (f *folding) run() []Day {
	for _, stage := range stagesOfTimeline {
		stage(f)
	}
	days := make([]Day, 0, max(int(f.in.To-f.in.From)+1, 0))
	var week weekSums
	for d := f.calcFrom; d <= f.in.To; d++ {
		if f.rules.firstDate(d) == d {
			week = weekSums{}
		}
		w := dayWork{f: f, own: &f.plans[f.index(d)], week: &week}
		for _, step := range stepsOfDay {
			step(&w)
		}
		if d >= f.in.From {
			days = append(days, w.day)
		}
	}
	return days
}

// index returns the index of the plan of a date.
func (f *folding) index(d Date) int { return int(d - f.plans[0].date) }

// local returns an instant on the clocks of the date.
func (p *plan) local(unix int64) time.Time { return time.Unix(unix, 0).In(p.loc) }

// dayWork is the work of one day. Each step reads what earlier steps have left here.
type dayWork struct {
	f     *folding
	own   *plan
	week  *weekSums
	day   Day
	parts []part
	// shifts are the shifts of this work date: under some rules, the shift of the date before.
	shifts  []*plan
	present []interval // disjoint and in order
	work    []interval // without breaks
	taken   int64      // pressed breaks, and time between sessions
	again   int64      // the earliest instant at which the day can change by itself
}

// weekSums are the sums of the dates of a week before the present one.
//
// They do not change by themselves: a session of an earlier date ends when one of a later date begins.
type weekSums struct{ worked, regular int64 }

func (w *dayWork) mark(m Mark) {
	if !slices.Contains(w.day.Marks, m) {
		w.day.Marks = append(w.day.Marks, m)
	}
}

// changesAt notes an instant at which the day can change without another input.
func (w *dayWork) changesAt(unix int64) {
	if unix > w.f.now.Unix() && (w.again == 0 || unix < w.again) {
		w.again = unix
	}
}

// describe fills in what the roster says, and finds the parts and the punches of the date.
func (w *dayWork) describe() {
	p, f := w.own, w.f
	w.day = Day{
		Company: f.in.Company, Employee: f.in.Employee, Date: p.date, Zone: p.loc.String(),
		Absences: p.absences, Inputs: f.inputs(p.date),
	}
	if p.holiday != nil {
		w.day.Holiday = p.holiday.Name
	}
	if p.schedule != nil {
		w.day.Rounding = p.schedule.Rounding
	}
	if p.conflict {
		w.mark(MarkRosterConflict)
	}
	if p.unknown {
		w.mark(MarkUnknownSchedule)
	}
	for i := max(f.index(p.date)-2, 0); i <= f.index(p.date); i++ {
		if other := &f.plans[i]; other.hasShift && other.workDate == p.date {
			w.addShift(other)
		}
	}
	from, to := span(f.parts, p.date, func(p part) Date { return p.date })
	w.parts = f.parts[from:to]
	w.listUnpaired()
}

func (w *dayWork) addShift(p *plan) {
	w.shifts = append(w.shifts, p)
	w.day.Totals.Target += p.target
	w.day.Shifts = append(w.day.Shifts, Planned{
		Schedule: p.schedule.Name, ScheduleFrom: p.schedule.EffectiveFrom, Start: p.local(p.shift.start), End: p.local(p.shift.end),
	})
	w.f.trace.addOn(ruleShift, w.own.date, entry{from: p.shift.start * 1e6, until: p.shift.end * 1e6, detail: p.schedule.Name})
}

// listUnpaired lists the punches of the date that are in no session and that a person should look at.
func (w *dayWork) listUnpaired() {
	f, at := w.f, w.f.index(w.own.date)
	from, to := span(f.events, at, func(e event) int { return e.plan })
	for i := from; i < to; i++ {
		e := &f.events[i]
		switch e.skip {
		case skipReview:
			w.unpaired(e, MarkNeedsReview)
		case skipFuture:
			w.unpaired(e, MarkFuturePunch)
		}
		if e.fixed {
			w.mark(MarkCorrected)
		}
		if !w.own.employed {
			w.mark(MarkNotEmployed)
		}
	}
	// Punches of the dates beside it can change the date when they begin to count.
	for _, i := range f.ahead {
		if e := &f.events[i]; e.plan >= at-2 && e.plan <= at+1 {
			w.changesAt(e.sec - maxAhead)
		}
	}
	for _, i := range f.lone {
		switch e := &f.events[i]; {
		case e.plan != at:
		case rank(e.kind) == 0:
			w.unpaired(e, MarkMissingBreakIn)
		default:
			w.unpaired(e, MarkMissingIn)
		}
	}
	slices.SortStableFunc(w.day.Unpaired, func(a, b Stamp) int { return a.At.Compare(b.At) })
}

func (w *dayWork) unpaired(e *event, reason Mark) {
	w.mark(reason)
	stamp := w.stamp(e)
	stamp.Reason = reason
	w.day.Unpaired = append(w.day.Unpaired, *stamp)
	w.f.trace.addOn(ruleUnpaired, w.own.date, entry{punch: e.id, from: e.micro, detail: string(reason)})
}

func (w *dayWork) stamp(e *event) *Stamp {
	return &Stamp{ID: e.id, Kind: e.kind, At: time.UnixMicro(e.micro).In(w.own.loc), Source: e.source}
}
