package attendance

import (
	"cmp"
	"slices"

	"github.com/punchclock/punchclock/node/punch"
)

// part is the part of a session that belongs to one date. Only the work date "split" makes more than one.
type part struct {
	session int
	date    Date
	span    interval
	counted interval // without the time that an earlier session covers
}

// breakSpan is a break as pressed. Its to is -1 when the end was not pressed.
type breakSpan struct {
	plan       int
	from, to   int // events
	start, end int64
}

// endSessions decides which sessions are still open, and gives the others without an out an end that counts as the rule
// says. Such an end is derived: it is never stored as a punch.
func (f *folding) endSessions() {
	now := f.now.Unix()
	for i := range f.sessions {
		s := &f.sessions[i]
		p := &f.plans[s.plan]
		if s.state == SessionOpen && s.followed {
			s.state, s.limit = SessionMissingOut, min(s.limit, floorDiv(s.next, 1e6))
			f.trace.add(ruleNextIn, s.plan, entry{punch: f.events[s.in].id, from: s.start * 1e6, until: s.next})
		}
		if s.state == SessionOpen && now > s.limit {
			s.state = SessionMissingOut
			f.trace.add(ruleLongest, s.plan, entry{punch: f.events[s.in].id, from: s.start * 1e6, until: s.limit * 1e6})
		}
		if s.state != SessionMissingOut {
			continue
		}
		switch {
		case p.settings.MissingOut == CountLongest:
			s.end = s.limit
		case p.settings.MissingOut == CountShift && p.hasShift:
			s.end = max(s.start, min(p.shift.end, s.limit))
		}
		if p.settings.WorkDate == BySplit {
			s.end = min(s.end, (dateAt(s.start, p.loc)+1).at(0, p.loc)) // nothing derived reaches the next date
		}
		f.trace.add(ruleMissingOut, s.plan, entry{
			punch: f.events[s.in].id, from: s.start * 1e6, until: s.end * 1e6, detail: string(p.settings.MissingOut),
		})
	}
}

// dateSessions gives each session its work date. A session in a shift has the work date of the shift. A session without
// an out has the date of its in: its end is not known, and a derived end must not touch another date.
func (f *folding) dateSessions() {
	var covered int64
	f.parts = make([]part, 0, len(f.sessions))
	for i := range f.sessions {
		s := &f.sessions[i]
		p := &f.plans[s.plan]
		end := s.end
		if s.state != SessionClosed {
			end = s.limit
		}
		s.inShift = p.hasShift && s.start <= p.shift.end && (end > p.shift.start || s.start >= p.shift.start-shiftMargin)
		span := interval{s.start, s.end}
		rule := p.settings.WorkDate
		switch {
		case rule == BySplit:
			s.date = dateAt(s.start, p.loc)
		case s.inShift:
			s.date = p.workDate
		case s.state != SessionClosed:
			s.date = p.date
		default:
			s.date = dateOfSpan(rule, span, p.date, p.loc)
		}
		f.trace.addOn(ruleWorkDate, s.date, entry{punch: f.events[s.in].id, from: s.start * 1e6, detail: string(rule)})
		f.addParts(i, span, covered)
		covered = max(covered, s.end)
	}
	slices.SortStableFunc(f.parts, func(a, b part) int { return cmp.Compare(a.date, b.date) })
}

// addParts adds the parts of a session, cut at each local midnight under the rule "split".
func (f *folding) addParts(i int, span interval, covered int64) {
	s := &f.sessions[i]
	p := &f.plans[s.plan]
	date := s.date
	for p.settings.WorkDate == BySplit {
		midnight := (date + 1).at(0, p.loc)
		if midnight >= span.end {
			break
		}
		f.addPart(part{session: i, date: date, span: interval{span.start, midnight}}, covered)
		span.start = midnight
		date++
	}
	f.addPart(part{session: i, date: date, span: span}, covered)
}

func (f *folding) addPart(p part, covered int64) {
	p.counted = interval{max(p.span.start, covered), p.span.end}
	f.parts = append(f.parts, p)
}

// pairBreaks makes breaks of the taps on break keys. A break ends on its own date. A start without an end is no break:
// the automatic break of the schedule applies as if none was taken.
func (f *folding) pairBreaks() {
	open := -1
	for i := range f.breakTaps {
		t := &f.breakTaps[i]
		if t.kind == punch.BreakStart {
			f.breakWithoutEnd(open)
			open = i
			continue
		}
		if open < 0 || f.breakTaps[open].plan != t.plan {
			f.lone = append(f.lone, t.first)
			continue
		}
		from, to := f.breakTaps[open].last, t.first
		f.breaks = append(f.breaks, breakSpan{plan: t.plan, from: from, to: to, start: f.events[from].sec, end: f.events[to].sec})
		open = -1
	}
	f.breakWithoutEnd(open)
}

func (f *folding) breakWithoutEnd(tap int) {
	if tap < 0 {
		return
	}
	t := &f.breakTaps[tap]
	at := f.events[t.last].sec
	f.breaks = append(f.breaks, breakSpan{plan: t.plan, from: t.last, to: -1, start: at, end: at})
}
