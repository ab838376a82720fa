package attendance_test

import (
	"bytes"
	"cmp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
)

// The model pairs punches by the sentences of DESIGN.md, without state between punches and without regard to speed. It
// knows UTC, a day boundary at 04:00 and no shifts.

type modelTap struct {
	kind        punch.Kind
	first, last attendance.Punch
	date        attendance.Date
	out         int // index of the tap that closes this in; -1 for none
	used        bool
}

// modelTaps orders the punches and joins the runs.
func modelTaps(punches []attendance.Punch, gap time.Duration, trusted bool) []modelTap {
	rank := func(k punch.Kind) int { return slices.Index([]punch.Kind{out, auto, in}, k) }
	list := slices.Clone(punches)
	slices.SortFunc(list, func(a, b attendance.Punch) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(rank(a.Kind), rank(b.Kind)), bytes.Compare(a.ID[:], b.ID[:]))
	})
	var taps []modelTap
	for i, p := range list {
		kind := p.Kind
		if !trusted {
			kind = auto
		}
		date := attendance.DateOf(p.At.Add(-4 * time.Hour))
		if i > 0 && gap > 0 {
			last := &taps[len(taps)-1]
			if last.kind == kind && last.date == date && p.At.Sub(list[i-1].At) <= gap {
				last.last = p
				continue
			}
		}
		taps = append(taps, modelTap{kind: kind, first: p, last: p, date: date, out: -1})
	}
	return taps
}

// modelPressed closes ins with outs. For each out it looks at every in before it.
func modelPressed(taps []modelTap, longest time.Duration) {
	for i := range taps {
		t := &taps[i]
		if t.kind == in {
			// An out at the same instant that has closed nothing closes this in.
			for j := i - 1; j >= 0; j-- {
				if taps[j].kind == out && !taps[j].used && taps[j].last.At.Equal(t.first.At) {
					t.out, taps[j].used = j, true
					break
				}
			}
			continue
		}
		best := -1
		for j := range i {
			if taps[j].kind != in || taps[j].out >= 0 || t.last.At.Truncate(time.Second).Sub(taps[j].first.At.Truncate(time.Second)) > longest {
				continue
			}
			if superseded(taps, j, i) {
				continue
			}
			same := taps[j].first.Source == t.last.Source
			if best < 0 || same || taps[best].first.Source != t.last.Source {
				best = j
			}
		}
		if best >= 0 {
			taps[best].out, t.used = i, true
		}
	}
}

// superseded reports whether another in between the two ended the session of the in: one of the same source, or one of
// a later date.
func superseded(taps []modelTap, j, i int) bool {
	for k := j + 1; k < i; k++ {
		instant := taps[k].out >= 0 && taps[k].out < k // closed by an out at its own instant
		if taps[k].kind == in && !instant && (taps[k].first.Source == taps[j].first.Source || taps[k].date != taps[j].date) {
			return true
		}
	}
	return false
}

type pair struct{ in, out attendance.ID }

func modelPairs(taps []modelTap) (pairs []pair) {
	for _, t := range taps {
		if t.kind != in {
			continue
		}
		p := pair{in: t.first.ID}
		if t.out >= 0 {
			p.out = taps[t.out].last.ID
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// foldedPairs returns the sessions of all days in the order of their ins.
func foldedPairs(days []attendance.Day) (pairs []pair) {
	for _, d := range days {
		for _, s := range d.Sessions {
			p := pair{in: s.In.ID}
			if s.Out != nil {
				p.out = s.Out.ID
			}
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// sortPairs orders pairs by id, because two sessions may begin in one second.
func sortPairs(pairs []pair) []pair {
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.in[:], b.in[:]) })
	return pairs
}

func drawModelPunches(t *rapid.T, w *world) {
	g := generator{t: t, w: w}
	for range rapid.IntRange(0, 60).Draw(t, "punches") {
		g.punch()
		p := &w.line.Punches[len(w.line.Punches)-1]
		p.Review = false
		p.Kind = rapid.SampledFrom([]punch.Kind{in, out}).Draw(t, "key")
	}
	w.settings.DoubleTapSeconds = rapid.SampledFrom([]int{0, 60, 900}).Draw(t, "gap")
	w.settings.LongestSessionMinutes = rapid.SampledFrom([]int{60, 960, 1440}).Draw(t, "longest")
}

func TestPairingAsPressedEqualsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "UTC")
		drawModelPunches(t, w)
		taps := modelTaps(w.line.Punches, time.Duration(w.settings.DoubleTapSeconds)*time.Second, true)
		modelPressed(taps, time.Duration(w.settings.LongestSessionMinutes)*time.Minute)
		days := w.wide()
		if got, want := sortPairs(foldedPairs(days)), sortPairs(modelPairs(taps)); !slices.Equal(got, want) {
			t.Fatalf("sessions are\n%v, want\n%v\nof %+v", got, want, w.line.Punches)
		}
		// Every out is in a session or marked.
		var lone int
		for _, tap := range taps {
			if tap.kind == out && !tap.used {
				lone++
			}
		}
		for _, d := range days {
			lone -= len(d.Unpaired)
		}
		if lone != 0 {
			t.Fatalf("%d outs without an in are not listed", lone)
		}
	})
}

func TestAlternationEqualsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, "UTC")
		w.settings.Pairing = attendance.Alternating
		drawModelPunches(t, w)
		longest := time.Duration(w.settings.LongestSessionMinutes) * time.Minute
		taps := modelTaps(w.line.Punches, time.Duration(w.settings.DoubleTapSeconds)*time.Second, false)
		var want []pair
		for i := 0; i < len(taps); i++ {
			p := pair{in: taps[i].first.ID}
			if i+1 < len(taps) && taps[i+1].date == taps[i].date &&
				taps[i+1].last.At.Truncate(time.Second).Sub(taps[i].first.At.Truncate(time.Second)) <= longest {
				i++
				p.out = taps[i].last.ID
			}
			want = append(want, p)
		}
		if got := sortPairs(foldedPairs(w.wide())); !slices.Equal(got, sortPairs(want)) {
			t.Fatalf("sessions are\n%v, want\n%v\nof %+v", got, want, w.line.Punches)
		}
	})
}
