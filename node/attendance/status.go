package attendance

import (
	"cmp"
	"slices"
)

// completeness says up to when the sources of the employee have reported, and which of them hold the date back.
func (w *dayWork) completeness() {
	f := w.f
	silentAfter := int64(w.own.settings.SilentAfterMinutes) * 60
	need := min(f.now.Unix()-silentAfter, w.dateEnd())
	if absence, judged := w.absenceNeeds(); judged {
		need = max(need, absence)
	}
	for _, s := range f.in.Sources {
		if until := w.own.local(s.CompleteUntil.Unix()); w.day.Complete.Until.IsZero() || until.Before(w.day.Complete.Until) {
			w.day.Complete.Until = until
		}
		if s.CompleteUntil.Unix() < need && w.own.start <= w.f.now.Unix() {
			s.CompleteUntil = s.CompleteUntil.In(w.own.loc)
			w.day.Complete.Silent = append(w.day.Complete.Silent, s)
		}
	}
	slices.SortFunc(w.day.Complete.Silent, func(a, b Source) int {
		if c := a.CompleteUntil.Compare(b.CompleteUntil); c != 0 {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
}

// dateEnd returns when no punch can belong to the date any more, but for the out of an open session.
func (w *dayWork) dateEnd() int64 {
	end := w.f.plans[w.f.index(w.own.date)+1].start
	for _, p := range w.shifts {
		end = max(end, p.shift.end)
	}
	return end
}

// graceEnd returns when an employee who has not come to the shift is missing.
func (p *plan) graceEnd() int64 {
	if p.flexible {
		return p.shift.end
	}
	return min(p.shift.start+int64(p.schedule.Grace.LateMinutes)*60, p.shift.end)
}

// absenceNeeds returns up to when every source must have reported before an employee without a punch is absent: to the
// end of the grace, and later to shortly before now. A source that holds a punch of the shift then makes no absence. It
// is not judged before the end of the grace.
func (w *dayWork) absenceNeeds() (need int64, judged bool) {
	now := w.f.now.Unix()
	for _, p := range w.shifts {
		if grace := p.graceEnd(); now >= grace {
			recent := now - int64(w.own.settings.SilentAfterMinutes)*60
			need, judged = max(need, grace, min(recent, p.shift.end)), true
		}
	}
	return need, judged
}

// status chooses the one word for the board, and says whether and when it can change by itself.
func (w *dayWork) status() {
	w.day.Status = w.chooseStatus()
	now, end := w.f.now.Unix(), w.dateEnd()
	w.changesAt(end)
	w.day.Provisional = now < end || w.open()
	if w.again > 0 {
		w.day.FoldAgainAt = w.own.local(w.again)
	}
	slices.SortFunc(w.day.Marks, func(a, b Mark) int { return slices.Index(Marks, a) - slices.Index(Marks, b) })
	w.f.trace.addOn(ruleStatus, w.own.date, entry{detail: string(w.day.Status)})
}

func (w *dayWork) chooseStatus() Status {
	marked := func(m Mark) bool { return slices.Contains(w.day.Marks, m) }
	switch {
	case w.onBreak():
		return OnBreak
	case w.open():
		return Working
	case marked(MarkMissingOut):
		return MissingOuts
	case marked(MarkLate):
		return Late
	case marked(MarkLeftEarly):
		return LeftEarly
	case len(w.parts) > 0, marked(MarkMissingIn):
		return Present
	case !w.own.employed:
		return NotEmployed
	case len(w.shifts) > 0:
		return w.withoutPunch()
	case fullHoliday(w.own):
		return OnHoliday
	case len(w.own.absences) > 0 && (w.own.hasRoster || w.own.schedule == nil):
		return OnLeave
	case w.own.hasRoster && w.own.holiday != nil:
		return OnHoliday // of half a day, and the employee was employed in the other half alone
	case w.own.conflict, w.own.unknown:
		return NotKnownYet // whether the employee had to come
	default:
		return Off
	}
}

// onBreak reports whether the latest break in an open session has no end.
func (w *dayWork) onBreak() bool {
	n := len(w.day.Breaks)
	return w.open() && n > 0 && w.day.Breaks[n-1].To == nil &&
		!w.day.Breaks[n-1].From.At.Before(w.day.Sessions[len(w.day.Sessions)-1].Start)
}

// withoutPunch is the status of an employee who has a shift and no punch. Absent needs evidence: every source has
// reported.
func (w *dayWork) withoutPunch() Status {
	need, judged := w.absenceNeeds()
	silentAfter := int64(w.own.settings.SilentAfterMinutes) * 60
	for _, p := range w.shifts {
		w.changesAt(p.graceEnd())
	}
	if !judged {
		return Expected
	}
	if len(w.f.in.Sources) == 0 {
		return NotKnownYet
	}
	for _, s := range w.f.in.Sources {
		if s.CompleteUntil.Unix() < need {
			return NotKnownYet
		}
		// The same source holds the absence back when it is silent for longer.
		if until := s.CompleteUntil.Unix(); until < w.shifts[len(w.shifts)-1].shift.end {
			w.changesAt(until + silentAfter + 1)
		}
	}
	return Absent
}
