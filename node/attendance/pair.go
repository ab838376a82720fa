package attendance

import (
	"slices"

	"github.com/punchclock/punchclock/node/punch"
)

// session is the time from an in to its out.
type session struct {
	in, out int // events; out is -1 without one
	plan    int // the date to which the in belongs
	limit   int64
	// start and end are the span that counts. For an open session both are the in.
	start, end int64
	state      SessionState
	followed   bool  // by another in before its out
	next       int64 // that in, in microseconds
	date       Date
	inShift    bool // belongs to the shift of its plan
}

// maxOpen bounds the open sessions of one employee. An employee is not at more sites at once. Without the bound, a device
// that names another source for each punch would make a fold slow.
const maxOpen = 16

// pairing is the state of pairing between two taps. All open sessions began on one date, so a punch of an earlier date
// never changes how a later date is paired.
type pairing struct {
	f    *folding
	open []int // sessions that may get an out, in the order of their ins
}

// pair makes sessions of the taps by the mode of the date on which each tap lies.
func (f *folding) pair() {
	f.sessions = make([]session, 0, len(f.taps)/2+1)
	p := pairing{f: f}
	for start := 0; start < len(f.taps); {
		end := start + 1
		for end < len(f.taps) && f.taps[end].plan == f.taps[start].plan {
			end++
		}
		taps := f.taps[start:end]
		switch f.plans[taps[0].plan].settings.Pairing {
		case Alternating:
			p.startDay()
			p.alternate(taps)
		case FirstLast:
			p.startDay()
			p.firstLast(taps)
		default:
			for i := range taps {
				p.press(&taps[i])
			}
		}
		start = end
	}
}

// startDay ends what earlier dates have left open: without trusted keys, only a punch of the same date can be the out.
func (p *pairing) startDay() { p.open = p.open[:0] }

// alternate pairs the taps of one date in turn. It begins again when the longest session has ended.
func (p *pairing) alternate(taps []tap) {
	f := p.f
	for i := range taps {
		t := &taps[i]
		if n := len(f.sessions); len(p.open) > 0 && f.events[t.last].sec <= f.sessions[n-1].limit {
			f.close(n-1, t.last, ruleAlternate)
			p.open = p.open[:0]
			continue
		}
		p.open = append(p.open[:0], f.begin(t.first, ruleAlternate))
	}
}

func (p *pairing) firstLast(taps []tap) {
	f := p.f
	s := f.begin(taps[0].first, ruleFirstLast)
	if len(taps) == 1 {
		p.open = append(p.open, s)
		return
	}
	f.close(s, taps[len(taps)-1].last, ruleFirstLast)
	for i := range taps[1 : len(taps)-1] {
		t := &taps[i+1]
		f.trace.add(ruleBetween, t.plan, entry{punch: f.events[t.first].id, from: f.events[t.first].micro})
	}
}

// press pairs one tap as pressed. An out closes the latest open session of the same source, else the latest. An in ends
// the open session of the same source, and each open session of an earlier date, for good.
func (p *pairing) press(t *tap) {
	f := p.f
	if t.kind == punch.Out || t.kind == punch.Auto && p.candidate(t) >= 0 {
		p.leave(t)
		return
	}
	// An in and an out at one instant, without an open session, are a session without length. The out is first in order.
	if n := len(f.lone); n > 0 && f.events[f.lone[n-1]].micro == f.events[t.first].micro {
		s := f.begin(t.first, ruleSameInstant)
		f.close(s, f.lone[n-1], ruleSameInstant)
		f.lone = f.lone[:n-1]
		return
	}
	p.endOthers(t)
	p.open = append(p.open, f.begin(t.first, rulePressed))
}

// endOthers notes that an in has followed the open sessions. One of the same date and of another source may still get
// its out, because an employee can be at two sites. Until then its out is missing.
func (p *pairing) endOthers(t *tap) {
	f := p.f
	in := &f.events[t.first]
	oldest := -1 // is dropped to make room
	if len(p.open) >= maxOpen {
		oldest = p.open[0]
	}
	p.open = slices.DeleteFunc(p.open, func(s int) bool {
		old := &f.sessions[s]
		if !old.followed {
			old.followed, old.next = true, in.micro
		}
		return old.plan != t.plan || f.events[old.in].source == in.source || s == oldest
	})
}

func (p *pairing) leave(t *tap) {
	f := p.f
	if i := p.candidate(t); i >= 0 {
		f.close(p.open[i], t.last, rulePressed)
		p.open = slices.Delete(p.open, i, i+1)
		return
	}
	f.lone = append(f.lone, t.last)
}

// candidate returns the index in open of the session that an out at t would close, -1 for none. A punch without a kind
// closes only a session of its own date that no in has followed: otherwise an employee has come.
func (p *pairing) candidate(t *tap) int {
	out, auto := &p.f.events[t.last], t.kind == punch.Auto
	found := -1
	for i, s := range slices.Backward(p.open) {
		old := &p.f.sessions[s]
		if out.sec > old.limit || auto && (old.plan != t.plan || old.followed) {
			continue
		}
		if p.f.events[old.in].source == out.source {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}

// begin starts a session at an event. Its limit is where the longest session ends.
func (f *folding) begin(in int, rule Rule) int {
	e := &f.events[in]
	limit := e.sec + int64(f.plans[e.plan].settings.LongestSessionMinutes)*60
	if f.plans[e.plan].settings.Pairing != AsPressed && e.plan+1 < len(f.plans) {
		limit = min(limit, f.plans[e.plan+1].start)
	}
	f.sessions = append(f.sessions, session{
		in: in, out: -1, plan: e.plan, start: e.sec, end: e.sec, state: SessionOpen, limit: limit,
	})
	f.trace.add(rule, e.plan, entry{punch: e.id, from: e.micro, detail: "in"})
	return len(f.sessions) - 1
}

func (f *folding) close(s, out int, rule Rule) {
	e := &f.events[out]
	f.sessions[s].out, f.sessions[s].end, f.sessions[s].state = out, e.sec, SessionClosed
	f.trace.add(rule, f.sessions[s].plan, entry{punch: e.id, from: e.micro, detail: "out"})
}
