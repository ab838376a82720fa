package drill

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/lab/load"
)

// Phase is a part of a drill.
type Phase string

// The phases.
const (
	Before Phase = "before" // punches settled before the break
	During Phase = "during" // punches that the break may have met
	After  Phase = "after"  // punches due after the heal
)

var phases = []Phase{Before, During, After}

// Moments are when the steps of a drill began and ended. A moment is zero if the drill did not come so far.
type Moments struct {
	Begin    time.Time `json:"begin"`
	Breaking time.Time `json:"breaking,omitzero"`
	Broken   time.Time `json:"broken,omitzero"`
	Healing  time.Time `json:"healing,omitzero"`
	Healed   time.Time `json:"healed,omitzero"`
	End      time.Time `json:"end,omitzero"` // end of the arrivals
}

func (m *Moments) phase(o *load.Outcome) Phase {
	switch {
	case m.Breaking.IsZero() || o.Settled.Before(m.Breaking):
		return Before
	case m.Healed.IsZero() || o.Due.Before(m.Healed):
		return During
	default:
		return After
	}
}

// samples collects the outcome of each punch.
type samples struct {
	mu  sync.Mutex // guards all
	all []load.Outcome
}

func (s *samples) add(o load.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, o)
}

// served reports whether each home has the receipt of a punch that was due after a moment.
func (s *samples) served(homes []string, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, home := range homes {
		if !slices.ContainsFunc(s.all, func(o load.Outcome) bool { return o.Home == home && o.Err == nil && o.Due.After(since) }) {
			return false
		}
	}
	return true
}

// Figures are latencies and counts of some punches. A latency is the time from the moment at which the punch was due
// to its receipt. A failed punch counts in Failed, and in the latencies with the time until it was given up.
type Figures struct {
	Sent    int           `json:"sent"`
	Failed  int           `json:"failed"`
	Retries int           `json:"retries"`
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`
}

// figuresOf sorts all latencies, which is exact: a drill has some ten thousand punches.
func figuresOf(outcomes []load.Outcome) Figures {
	f := Figures{Sent: len(outcomes)}
	if len(outcomes) == 0 {
		return f
	}
	took := make([]time.Duration, len(outcomes))
	for i, o := range outcomes {
		took[i] = o.Settled.Sub(o.Due)
		f.Retries += max(0, o.Attempts-1)
		if o.Err != nil {
			f.Failed++
		}
	}
	slices.Sort(took)
	// The smallest latency that the given share of punches did not exceed.
	at := func(percent int) time.Duration { return took[(len(took)*percent+99)/100-1] }
	f.P50, f.P99, f.Max = at(50), at(99), took[len(took)-1]
	return f
}

// Acknowledged returns the number of punches with a receipt.
func (f *Figures) Acknowledged() int { return f.Sent - f.Failed }

// HomeFigures are the figures of a home in a phase.
type HomeFigures struct {
	Home  string `json:"home"`
	Phase Phase  `json:"phase"`
	Figures
}

func homeFigures(all []load.Outcome, homes []string, m *Moments) (list []HomeFigures) {
	for _, home := range homes {
		for _, phase := range phases {
			own := only(all, func(o *load.Outcome) bool { return o.Home == home && m.phase(o) == phase })
			list = append(list, HomeFigures{home, phase, figuresOf(own)})
		}
	}
	return list
}

func only[T any](all []T, keep func(*T) bool) (some []T) {
	for i := range all {
		if keep(&all[i]) {
			some = append(some, all[i])
		}
	}
	return some
}

// Gap is the longest time, from the break on, in which punches of a home through an entry waited and none was
// acknowledged. A time without a waiting punch does not count. The entry is the region that the devices ask first,
// whichever region serves them.
type Gap struct {
	Home  string        `json:"home"`
	Entry string        `json:"entry"`
	From  time.Time     `json:"from,omitzero"`
	Took  time.Duration `json:"took_ns"`
	// Open is set if no punch was acknowledged after From until the end. That is worse than any longer gap that ended.
	Open bool `json:"open,omitempty"`
	// Acknowledged counts this home's and entry's receipts from the break on.
	Acknowledged int `json:"acknowledged"`
}

func (g *Gap) cell() string { return g.Home + " through " + g.Entry }

func gaps(all []load.Outcome, homes, entries []string, m *Moments) (list []Gap) {
	for _, home := range homes {
		for _, entry := range entries {
			own := only(all, func(o *load.Outcome) bool { return o.Home == home && o.Entry == entry })
			gap := longestGap(own, m.Breaking)
			gap.Home, gap.Entry = home, entry
			list = append(list, gap)
		}
	}
	return list
}

// longestGap looks at gaps that end after the break. It sorts outcomes.
func longestGap(outcomes []load.Outcome, breaking time.Time) (longest Gap) {
	if breaking.IsZero() || len(outcomes) == 0 {
		return Gap{}
	}
	slices.SortFunc(outcomes, func(a, b load.Outcome) int { return cmp.Compare(a.Settled.UnixNano(), b.Settled.UnixNano()) })
	// waiting[i] is the earliest due time among the punches settled from i on.
	waiting := make([]time.Time, len(outcomes)+1)
	for i := len(outcomes) - 1; i >= 0; i-- {
		waiting[i] = waiting[i+1]
		if waiting[i].IsZero() || outcomes[i].Due.Before(waiting[i]) {
			waiting[i] = outcomes[i].Due
		}
	}
	note := func(last time.Time, next int, until time.Time, open bool) {
		from := later(last, waiting[next])
		if took := until.Sub(from); until.After(breaking) && (open || took > longest.Took) {
			longest.From, longest.Took, longest.Open = from, took, open
		}
	}
	var last time.Time // the last acknowledgement
	next := 0          // the first outcome after last
	for i, o := range outcomes {
		if o.Err == nil {
			note(last, next, o.Settled, false)
			last, next = o.Settled, i+1
			if o.Settled.After(breaking) {
				longest.Acknowledged++
			}
		}
	}
	if next < len(outcomes) {
		note(last, next, outcomes[len(outcomes)-1].Settled, true)
	}
	return longest
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// clockTolerance is far more than the clocks of healthy machines differ, and far less than wrongBy.
const clockTolerance = time.Minute

// wrongTimes counts the receipts whose receive time is outside the time in which the punch was under way. A node stamps
// punches with its own clock until it notices that the clock is wrong, so only punches due after the break count.
func wrongTimes(all []load.Outcome, m *Moments) (n int) {
	for _, o := range all {
		if m.Broken.IsZero() || o.Due.Before(m.Broken) || o.Err != nil {
			continue
		}
		if o.Received.Before(o.Due.Add(-clockTolerance)) || o.Received.After(o.Settled.Add(clockTolerance)) {
			n++
		}
	}
	return n
}
