package attendance

import (
	"cmp"
	"slices"
	"time"
)

const (
	// shiftMargin is how far the boundary of a day keeps from a shift. People come early and leave late by less than
	// this; one who does not is still right where they press keys for in and out.
	shiftMargin = 3 * 60 * 60
	// maxMove bounds how far shifts move the boundary of a day. Boundaries then keep their order.
	maxMove = 11 * 60 * 60
)

// interval is a span of whole seconds: start <= t < end.
type interval struct{ start, end int64 }

func (i interval) length() int64 { return max(i.end-i.start, 0) }

// plan is what the roster and the rules say about one date, before a punch is looked at.
type plan struct {
	date     Date
	loc      *time.Location
	settings *settings
	schedule *schedule // nil without one
	// start is where the punches of the date begin. They end where those of the next date begin.
	start int64
	// shift is what is expected after leave, holidays and employment; roster is the shift without them.
	hasShift, hasRoster bool
	shift, roster       interval
	flexible            bool
	workDate            Date // of the shift
	target              int64
	holiday             *Holiday
	absences            []Absence
	conflict            bool // two rosters disagree
	unknown             bool // the assigned schedule does not exist on the date
	employed            bool
}

// planDates makes the plans of all dates that the fold looks at, with one more at each end for the boundaries.
func (f *folding) planDates() {
	assignments := slices.Clone(f.in.Assignments)
	slices.SortFunc(assignments, func(a, b Assignment) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Schedule, b.Schedule))
	})
	first, last := f.calcFrom-reachBack, f.in.To+reachForward
	f.plans = make([]plan, 0, int(last-first)+1)
	for d := first; d <= last; d++ {
		f.plans = append(f.plans, f.planOn(d, assignments))
	}
	for i := range f.plans {
		f.plans[i].start = f.boundary(i)
		if i > 0 {
			f.plans[i].start = max(f.plans[i].start, f.plans[i-1].start)
		}
	}
}

func (f *folding) planOn(d Date, assignments []Assignment) plan {
	p := plan{date: d, settings: f.rules.settingsOn(d), loc: f.in.Location, workDate: d}
	if p.loc == nil {
		p.loc = p.settings.loc
	}
	midnight := interval{d.at(0, p.loc), (d + 1).at(0, p.loc)}
	employed := clip(midnight, f.employed())
	p.employed = employed.length() > 0
	p.assign(f.rules, assignments)
	calendar := p.settings.Calendar
	if p.schedule != nil && p.schedule.Calendar != "" {
		calendar = p.schedule.Calendar
	}
	p.holiday = f.rules.holidays[holidayKey{calendar, d}]
	for _, a := range f.in.Absences {
		if a.Date == d {
			p.absences = append(p.absences, a)
		}
	}
	slices.SortFunc(p.absences, func(a, b Absence) int { return cmp.Or(cmp.Compare(a.Part, b.Part), cmp.Compare(a.Kind, b.Kind)) })
	p.expect(f.employed())
	return p
}

// assign finds the schedule of the date, and its shift.
func (p *plan) assign(rules *Rules, assignments []Assignment) {
	name := ""
	var from Date
	for _, a := range assignments {
		if a.From > p.date {
			break
		}
		p.conflict = name != "" && a.From == from && a.Schedule != name
		name, from = a.Schedule, a.From
	}
	if name == "" {
		return
	}
	p.schedule = rules.scheduleOn(name, p.date)
	p.unknown = p.schedule == nil
	if p.unknown || p.conflict {
		return
	}
	s := &p.schedule.Schedule
	shift := s.Cycle[floorMod(int64(p.date-s.CycleStart), int64(len(s.Cycle)))]
	if shift == nil {
		return
	}
	p.hasRoster, p.flexible = true, shift.Flexible
	p.roster = interval{p.date.at(shift.Start, p.loc), p.date.at(shift.End, p.loc)}
	if shift.End <= shift.Start {
		p.roster.end = (p.date + 1).at(shift.End, p.loc)
	}
	p.hasRoster = p.roster.length() > 0 // false where a shift lies in a missing hour
	p.target = int64(shift.targetMinutes(s.Breaks)) * 60
}

// targetMinutes returns the work that a shift asks for.
func (s *Shift) targetMinutes(breaks []Break) int {
	if s.TargetMinutes > 0 {
		return s.TargetMinutes
	}
	required := 0
	for _, b := range breaks {
		if s.length() > b.AfterMinutes {
			required = max(required, b.Minutes)
		}
	}
	return max(s.length()-required, 0)
}

// expect cuts the shift by leave, holidays and employment, and sets its work date and target.
func (p *plan) expect(employed interval) {
	p.shift = p.roster
	if p.hasRoster {
		p.workDate = dateOfSpan(p.settings.WorkDate, p.roster, p.date, p.loc)
	}
	middle := p.roster.start + p.roster.length()/2
	parts := make([]Part, 0, 4)
	if p.holiday != nil {
		parts = append(parts, p.holiday.Part)
	}
	for _, a := range p.absences {
		parts = append(parts, a.Part)
	}
	for _, part := range parts {
		switch part {
		case FirstHalf:
			p.shift.start = max(p.shift.start, middle)
		case SecondHalf:
			p.shift.end = min(p.shift.end, middle)
		default:
			p.shift.end = p.shift.start
		}
	}
	p.shift = clip(p.shift, employed)
	p.hasShift = p.hasRoster && p.shift.length() > 0
	if !p.hasShift {
		p.target = 0
		return
	}
	p.target = p.target * p.shift.length() / p.roster.length()
}

// employed returns the span of the employment in seconds.
func (f *folding) employed() interval {
	span := interval{MinDate.Time().Unix() - secondsPerDay, MaxDate.Time().Unix() + 2*secondsPerDay}
	if !f.in.Employment.From.IsZero() {
		span.start = f.in.Employment.From.Unix()
	}
	if !f.in.Employment.To.IsZero() {
		span.end = f.in.Employment.To.Unix()
	}
	return span
}

// boundary returns where the punches of plan i begin. Without shifts it is the day boundary of the settings. It keeps
// shiftMargin away from the shift before and from the shift after. Where both are too near, it lies in the middle, so a
// punch belongs to the nearest shift.
func (f *folding) boundary(i int) int64 {
	p := &f.plans[i]
	clock := p.settings.DayBoundary
	if p.schedule != nil && p.schedule.DayBoundary != nil {
		clock = *p.schedule.DayBoundary
	}
	standard := p.date.at(clock, p.loc)
	at := standard
	before, after := i > 0 && f.plans[i-1].hasRoster, p.hasRoster
	var end, start int64
	if before {
		end = f.plans[i-1].roster.end
	}
	if after {
		start = p.roster.start
	}
	if before {
		at = max(at, end+shiftMargin)
	}
	if after {
		at = min(at, start-shiftMargin)
	}
	if before && after && end+shiftMargin > start-shiftMargin {
		at = end + (start-end)/2
	}
	return min(max(at, standard-maxMove), standard+maxMove)
}

// dateOfSpan applies the rule for the work date to a span that begins on date.
func dateOfSpan(rule WorkDate, span interval, date Date, loc *time.Location) Date {
	switch rule {
	case ByEnd:
		return dateAt(max(span.end-1, span.start), loc)
	case ByLongerPart:
		first := dateAt(span.start, loc)
		midnight := (first + 1).at(0, loc)
		switch {
		case span.end <= midnight:
			return date
		case midnight-span.start >= span.end-midnight:
			return first
		default:
			return first + 1
		}
	default:
		return date
	}
}

func clip(a, b interval) interval { return interval{max(a.start, b.start), min(a.end, b.end)} }
