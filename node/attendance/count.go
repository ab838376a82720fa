package attendance

import "slices"

// shortSession is the length up to which a session makes a mark: it was probably a wrong key.
const shortSession = 60

// presence joins the parts of the date to the spans in which the employee was there. Sessions at two sites that overlap
// count once.
func (w *dayWork) presence() {
	f := w.f
	for _, part := range w.parts {
		s := &f.sessions[part.session]
		entry := Session{State: s.state, In: w.stamp(&f.events[s.in]), Start: w.own.local(part.span.start), End: w.own.local(part.span.end)}
		switch {
		case s.out >= 0:
			entry.Out = w.stamp(&f.events[s.out])
			if s.end-s.start <= shortSession {
				w.mark(MarkShortSession)
			}
		case s.state == SessionOpen:
			w.changesAt(s.limit + 1)
		default:
			w.mark(MarkMissingOut)
		}
		w.day.Sessions = append(w.day.Sessions, entry)
		if part.counted.start > part.span.start {
			w.mark(MarkOverlap)
			f.trace.addOn(ruleUnion, w.own.date, between(part.span.start, part.counted.start))
		}
		w.addPresence(part.counted)
	}
}

// addPresence adds a span that begins after all others do. Spans that touch become one.
func (w *dayWork) addPresence(i interval) {
	if i.length() == 0 {
		return
	}
	if n := len(w.present); n > 0 && w.present[n-1].end == i.start {
		w.present[n-1].end = i.end
		return
	}
	w.present = append(w.present, i)
}

// pressedBreaks takes the pressed breaks out of the presence. Time of a break outside a session is no break.
func (w *dayWork) pressedBreaks() {
	f := w.f
	gross := total(w.present)
	var pressed []interval // a break begins after the one before has ended
	for i := range f.breaks {
		b := &f.breaks[i]
		if f.plans[b.plan].date != w.own.date && !w.within(interval{b.start, b.end}) {
			continue
		}
		w.listBreak(b)
		if b.to >= 0 {
			pressed = append(pressed, interval{b.start, b.end})
			f.trace.addOn(rulePressedBreak, w.own.date, between(b.start, b.end))
		}
	}
	w.work = subtract(w.present, pressed)
	w.day.Totals.Break = gross - total(w.work)
	w.taken = w.day.Totals.Break
	for i := 1; i < len(w.present); i++ {
		w.taken += w.present[i].start - w.present[i-1].end
	}
	if w.day.Totals.Break > gross/2 && gross > 0 {
		w.mark(MarkLongBreak)
	}
}

// within reports whether some of the span lies in the presence of the date.
func (w *dayWork) within(i interval) bool {
	n := len(w.present)
	if n == 0 || i.end <= w.present[0].start || i.start >= w.present[n-1].end {
		return false
	}
	return overlap(w.present, i) > 0
}

func (w *dayWork) listBreak(b *breakSpan) {
	f := w.f
	pause := Pause{From: w.stamp(&f.events[b.from])}
	if b.to >= 0 {
		pause.To = w.stamp(&f.events[b.to])
	} else if !w.open() {
		w.mark(MarkMissingBreakEnd)
	}
	w.day.Breaks = append(w.day.Breaks, pause)
}

// open reports whether the employee is in.
func (w *dayWork) open() bool {
	return slices.ContainsFunc(w.parts, func(p part) bool { return w.f.sessions[p.session].state == SessionOpen })
}

// automaticBreaks deducts what is missing of the required breaks. The deduction lies behind the work that requires it:
// 30 minutes after 6 hours begin when 6 hours are worked. Working longer therefore never means less worked time.
func (w *dayWork) automaticBreaks() {
	if w.own.schedule == nil {
		return
	}
	deducted := int64(0)
	for _, b := range w.own.schedule.Breaks {
		after, missing := int64(b.AfterMinutes)*60, int64(b.Minutes)*60-w.taken-deducted
		if missing <= 0 || total(w.work) <= after {
			continue
		}
		if !b.Deduct {
			w.mark(MarkMissingBreak)
			w.f.trace.addOn(ruleMissingBreak, w.own.date, entry{seconds: missing})
			continue
		}
		before := total(w.work)
		w.work = cutAfter(w.work, after, missing)
		deducted += before - total(w.work)
		w.f.trace.addOn(ruleAutomaticBreak, w.own.date, entry{seconds: before - total(w.work)})
	}
	w.day.Totals.AutomaticBreak = deducted
}

func (w *dayWork) worked() {
	w.day.Totals.Worked = total(w.work)
	w.f.trace.addOn(ruleWorked, w.own.date, entry{seconds: w.day.Totals.Worked})
	if len(w.parts) == 0 {
		return
	}
	full := func(a Absence) bool { return a.Part == Full }
	if slices.ContainsFunc(w.own.absences, full) {
		w.mark(MarkWorkedOnLeave)
	}
	if fullHoliday(w.own) {
		w.mark(MarkWorkedOnHoliday)
	}
}

// overtime counts daily overtime, and weekly overtime of what is no daily overtime. It lies on the date on which the
// week's regular work is complete.
func (w *dayWork) overtime() {
	worked := w.day.Totals.Worked
	regular := worked
	if w.own.schedule != nil {
		rule := w.own.schedule.Overtime
		if limit := int64(rule.DailyAfterMinutes) * 60; limit > 0 && worked > limit {
			w.day.Totals.OvertimeDaily = worked - limit
			regular = limit
			w.f.trace.addOn(ruleOvertimeDaily, w.own.date, entry{seconds: worked - limit})
		}
		if limit := int64(rule.WeeklyAfterMinutes) * 60; limit > 0 && w.week.regular+regular > limit {
			weekly := min(regular, w.week.regular+regular-limit)
			w.day.Totals.OvertimeWeekly = weekly
			if weekly > 0 {
				w.f.trace.addOn(ruleOvertimeWeekly, w.own.date, entry{seconds: weekly})
			}
		}
	}
	w.week.worked += worked
	w.week.regular += regular
}

// premiums counts the work in the window of each premium.
func (w *dayWork) premiums() {
	if w.own.schedule == nil || len(w.work) == 0 {
		return
	}
	for i := range w.own.schedule.Premiums {
		rule := &w.own.schedule.Premiums[i]
		seconds := int64(0)
		// A window that crosses midnight can begin on the date before the work. Work can end on the date after.
		first, last := dateAt(w.work[0].start, w.own.loc)-1, dateAt(w.work[len(w.work)-1].end, w.own.loc)
		for d := first; d <= last; d++ {
			if window, ok := w.premiumWindow(rule, d); ok {
				seconds += overlap(w.work, window)
			}
		}
		if seconds > 0 {
			w.day.Premiums = append(w.day.Premiums, Amount{rule.Name, seconds})
			w.f.trace.addOn(rulePremium, w.own.date, entry{seconds: seconds, detail: rule.Name})
		}
	}
}

// premiumWindow returns the window of a premium that begins on d. Weekdays and holidays are those of d, so Sunday ends
// at midnight also for a shift that began on it.
func (w *dayWork) premiumWindow(p *Premium, d Date) (interval, bool) {
	if len(p.Weekdays) > 0 && !slices.Contains(p.Weekdays, Weekday(d.Weekday())) {
		return interval{}, false
	}
	if i := w.f.index(d); p.Holidays && (i < 0 || i >= len(w.f.plans) || !fullHoliday(&w.f.plans[i])) {
		return interval{}, false
	}
	if p.Start == nil {
		return interval{d.at(0, w.own.loc), (d + 1).at(0, w.own.loc)}, true
	}
	window := interval{d.at(*p.Start, w.own.loc), d.at(*p.End, w.own.loc)}
	if *p.End <= *p.Start {
		window.end = (d + 1).at(*p.End, w.own.loc)
	}
	return window, true
}

func fullHoliday(p *plan) bool { return p.holiday != nil && p.holiday.Part == Full }
