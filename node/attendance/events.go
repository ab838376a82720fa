package attendance

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/punchclock/punchclock/node/punch"
)

// maxAhead is how many seconds after now a punch may lie and still count. Nodes accept punches of clocks that are a
// little ahead.
const maxAhead = 5 * 60

// event is a punch as it counts: after the corrections.
type event struct {
	id       ID
	kind     punch.Kind
	source   string
	micro    int64 // Unix microseconds: the order
	sec      int64 // the second in which it lies: the durations
	plan     int   // index of the date to which it belongs
	recorded int64 // micro before the corrections
	pressed  punch.Kind
	skip     skip
	fixed    bool // a correction has touched it
	added    bool // a correction has added it: no terminal recorded its time
}

// skip says why an event does not count.
type skip uint8

const (
	counts skip = iota
	skipVoid
	skipReview
	skipFuture
)

func (e *event) is(kinds ...punch.Kind) bool { return slices.Contains(kinds, e.kind) }

// collectEvents turns punches and corrections into events in their order. Punches that appear twice count once.
func (f *folding) collectEvents() {
	f.events = make([]event, 0, len(f.in.Punches)+len(f.in.Corrections))
	for i := range f.in.Punches {
		p := &f.in.Punches[i]
		e := event{id: p.ID, kind: p.Kind, pressed: p.Kind, source: p.Source, micro: p.At.UnixMicro()}
		e.recorded = e.micro
		if p.Review {
			e.skip = skipReview
		}
		f.events = append(f.events, e)
	}
	if len(f.in.Corrections) > 0 {
		f.sortEvents() // a punch that appears twice is corrected once
		f.applyCorrections()
	}
	first, last := f.plans[0].date.Time().UnixMicro(), f.plans[len(f.plans)-1].date.Time().UnixMicro()
	f.events = slices.DeleteFunc(f.events, func(e event) bool { return e.micro < first || e.micro >= last })
	f.sortEvents()
	limit := f.now.Unix() + maxAhead
	at := 0
	for i := range f.events {
		e := &f.events[i]
		e.sec = floorDiv(e.micro, 1e6)
		for at+1 < len(f.plans) && f.plans[at+1].start <= e.sec {
			at++
		}
		e.plan = at
		if e.skip == counts && e.sec > limit {
			e.skip = skipFuture
			f.ahead = append(f.ahead, i)
		}
	}
}

// sortEvents orders the events and leaves each one once.
func (f *folding) sortEvents() {
	slices.SortFunc(f.events, compareEvents)
	f.events = slices.CompactFunc(f.events, func(a, b event) bool { return a.id == b.id && a.micro == b.micro && a.kind == b.kind })
}

// rank orders kinds at one instant: who ends one thing and begins the next at the same time has ended it first.
func rank(k punch.Kind) int {
	switch k {
	case punch.BreakEnd:
		return 0
	case punch.Out:
		return 1
	case punch.Auto:
		return 2
	case punch.In:
		return 3
	default:
		return 4
	}
}

func compareEvents(a, b event) int {
	if c := cmp.Compare(a.micro, b.micro); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(rank(a.kind), rank(b.kind)), bytes.Compare(a.id[:], b.id[:]))
}

// applyCorrections applies the accepted corrections to the events. Shifts of sources come first: a person who states a
// time means the true one, whenever the clock's fault is found.
func (f *folding) applyCorrections() {
	active := activeCorrections(f.in.Corrections)
	index := make(map[ID]int, len(f.events))
	for i := range f.events {
		index[f.events[i].id] = i
	}
	for _, c := range active {
		switch c.Op {
		case OpShift:
			f.shiftSource(c)
		case OpAdd:
			if _, known := index[c.ID]; !known {
				index[c.ID] = len(f.events)
				micro := c.At.UnixMicro()
				e := event{id: c.ID, kind: c.Kind, pressed: c.Kind, source: c.Source, micro: micro, recorded: micro, fixed: true, added: true}
				f.events = append(f.events, e)
			}
		}
	}
	for _, c := range active {
		i, known := index[c.Target]
		if !known {
			continue
		}
		e := &f.events[i]
		switch c.Op {
		case OpVoid:
			e.skip = skipVoid
		case OpRetime:
			e.micro = c.At.UnixMicro()
		case OpRekind:
			e.kind = c.Kind
		default:
			continue
		}
		e.touch()
	}
}

// touch marks that a person has looked at the punch, so a wrong clock of its device is no reason to leave it out.
func (e *event) touch() {
	e.fixed = true
	if e.skip == skipReview {
		e.skip = counts
	}
}

func (f *folding) shiftSource(c *Correction) {
	from, until := c.From.UnixMicro(), c.Until.UnixMicro()
	for i := range f.events {
		e := &f.events[i]
		if e.source == c.Source && e.recorded >= from && e.recorded < until && !e.added {
			e.micro += c.BySeconds * 1e6
			e.touch()
		}
	}
}

// activeCorrections returns the accepted corrections that no later one cancels, oldest first. The order is (MadeAt, ID),
// so the order of arrival has no meaning.
func activeCorrections(all []Correction) []*Correction {
	list := make([]*Correction, 0, len(all))
	for i := range all {
		if all[i].Decision == Accepted {
			list = append(list, &all[i])
		}
	}
	slices.SortFunc(list, func(a, b *Correction) int {
		if c := a.MadeAt.Compare(b.MadeAt); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	list = slices.CompactFunc(list, func(a, b *Correction) bool { return a.ID == b.ID })
	cancelled := make(map[ID]bool)
	for _, c := range slices.Backward(list) {
		if c.Op == OpVoid && !cancelled[c.ID] {
			cancelled[c.Target] = true
		}
	}
	return slices.DeleteFunc(list, func(c *Correction) bool { return cancelled[c.ID] })
}
