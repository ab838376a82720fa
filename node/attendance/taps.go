package attendance

import "github.com/punchclock/punchclock/node/punch"

// tap is a run of punches that count as one: an employee tapped the badge until a terminal beeped. For most taps, first
// and last are the same event.
type tap struct {
	kind        punch.Kind
	first, last int // events
	plan        int
}

// mergeTaps makes taps of the events that count, one list for coming and going and one for breaks. A run ends at the
// boundary of a day, so the days before cannot change how a day begins.
func (f *folding) mergeTaps() {
	f.taps = make([]tap, 0, len(f.events))
	for i := range f.events {
		e := &f.events[i]
		if e.skip != counts {
			continue
		}
		list := &f.taps
		kind := e.kind
		switch {
		case e.is(punch.BreakStart, punch.BreakEnd):
			list = &f.breakTaps
		case f.plans[e.plan].settings.Pairing != AsPressed:
			kind = punch.Auto // the keys are not trusted
		}
		if n := len(*list); n > 0 && f.repeats(&(*list)[n-1], kind, i) {
			f.trace.add(ruleDoubleTap, e.plan, entry{punch: e.id, from: e.micro, until: f.events[(*list)[n-1].first].micro})
			continue
		}
		*list = append(*list, tap{kind: kind, first: i, last: i, plan: e.plan})
	}
}

// repeats reports whether event i repeats the tap, and joins it to the tap. The gap is counted from the latest punch of
// the run, across terminals. A punch without a kind repeats any other and takes its kind.
func (f *folding) repeats(t *tap, kind punch.Kind, i int) bool {
	e, last := &f.events[i], &f.events[t.last]
	gap := int64(f.plans[e.plan].settings.DoubleTapSeconds) * 1e6
	same := kind == t.kind || kind == punch.Auto || t.kind == punch.Auto
	if gap == 0 || t.plan != e.plan || !same || e.micro-last.micro > gap {
		return false
	}
	if t.kind == punch.Auto {
		t.kind = kind
	}
	t.last = i
	return true
}
