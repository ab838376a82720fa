package attendance

import (
	"cmp"
	"slices"
)

// lateAndEarly compares each shift of the date with the sessions in it. A session outside every shift is neither late
// nor early.
func (w *dayWork) lateAndEarly() {
	for _, p := range w.shifts {
		first, last, open := w.attended(p)
		if first == nil {
			if len(w.parts) > 0 {
				w.missed(p)
			}
			continue
		}
		if p.flexible {
			continue
		}
		w.changesAt(p.shift.end)
		grace := p.schedule.Grace
		if late := first.start - p.shift.start; late > int64(grace.LateMinutes)*60 {
			w.day.Totals.Late += late
			w.mark(MarkLate)
			w.f.trace.addOn(ruleLate, w.own.date, entry{from: p.shift.start * 1e6, until: first.start * 1e6, seconds: late})
		}
		if early := p.shift.end - last.end; !open && early > int64(grace.EarlyMinutes)*60 && w.f.now.Unix() >= p.shift.end {
			w.day.Totals.Early += early
			w.mark(MarkLeftEarly)
			w.f.trace.addOn(ruleEarly, w.own.date, entry{from: last.end * 1e6, until: p.shift.end * 1e6, seconds: early})
		}
	}
}

// missed marks a shift that has begun without a session, while the date has others.
func (w *dayWork) missed(p *plan) {
	if w.f.now.Unix() > p.shift.start {
		w.mark(MarkMissedShift)
	}
	w.changesAt(p.shift.start + 1)
}

// attended returns the first session in the shift and the session in it that ends last. It is open when a session has
// no out, so its end is not known.
func (w *dayWork) attended(p *plan) (first, last *session, open bool) {
	from, to := span(w.f.sessions, w.f.index(p.date), func(s session) int { return s.plan })
	for i := from; i < to; i++ {
		s := &w.f.sessions[i]
		if !s.inShift {
			continue
		}
		if first == nil {
			first = s
		}
		if last == nil || s.end > last.end {
			last = s
		}
		open = open || s.state == SessionOpen
	}
	// A derived end says nothing about when the employee left.
	open = open || last != nil && last.state == SessionMissingOut
	return first, last, open
}

// legalMarks compares rest, day and week with the limits of the company.
func (w *dayWork) legalMarks() {
	limits := w.own.settings.Limits
	if limit := int64(limits.DayMinutes) * 60; limit > 0 && w.day.Totals.Worked > limit {
		w.mark(MarkLongDay)
		w.f.trace.addOn(ruleLongDay, w.own.date, entry{seconds: w.day.Totals.Worked})
	}
	if limit := int64(limits.WeekMinutes) * 60; limit > 0 && w.week.worked > limit && w.day.Totals.Worked > 0 {
		w.mark(MarkLongWeek)
		w.f.trace.addOn(ruleLongWeek, w.own.date, entry{seconds: w.week.worked})
	}
	if limit := int64(limits.RestMinutes) * 60; limit > 0 && len(w.present) > 0 {
		if rest, known := w.rest(); known && rest < limit {
			w.mark(MarkShortRest)
			w.f.trace.addOn(ruleShortRest, w.own.date, entry{seconds: rest})
		}
	}
}

// rest returns the time between the last session of earlier dates and the first of this one. It is not known behind a
// date with a session without an out, and there is none within a session that midnight has cut.
func (w *dayWork) rest() (seconds int64, known bool) {
	f, begin, found := w.f, w.present[0].start, false
	// Parts are in the order of their dates. What lies before the last five dates ended more than a day ago, and a day is
	// the longest rest.
	latest := w.own.date - 5
	i, _ := slices.BinarySearchFunc(f.parts, latest, func(p part, d Date) int { return cmp.Compare(p.date, d) })
	for ; i < len(f.parts) && f.parts[i].date < w.own.date; i++ {
		p := &f.parts[i]
		if p.session == w.parts[0].session {
			return 0, false
		}
		closed := f.sessions[p.session].state == SessionClosed
		if closed && p.span.length() == 0 || p.span.start >= begin {
			continue
		}
		if !found || p.date > latest {
			found, known, latest, seconds = true, true, p.date, begin-p.span.end
		}
		seconds = min(seconds, begin-p.span.end)
		known = known && closed
	}
	return max(seconds, 0), known
}
