package admission

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/region"
)

// servedUpTo is the highest level of degradation at which a class is served. A class that is missing is served at level 0
// only.
var servedUpTo = map[Class]uint8{
	Forwarded: region.PunchesOnly, Interactive: region.PunchesOnly, Stored: region.PunchesOnly,
	Read: region.NoBackground,
}

const (
	// riseAfter is how long a node must refuse punches before its level rises by one. The valve finds its limit within a
	// second, and a stall of the database or a burst after it is over in a few. A rush lasts for many minutes.
	riseAfter = 5 * time.Second
	// releaseAfter is how long a node must have refused no punch before its level falls by one. The refused callers come
	// back within Retry-After, which is below this time unless most punches are refused. Reads must not meet them.
	releaseAfter = 30 * time.Second
	// calmAfter is the pause between two refusals that ends a time of refusing. The valve forgets its limit after two
	// seconds, and a step takes one.
	calmAfter = unlimitedAfter + levelStep
	// levelStep is the least time between two looks at the valve.
	levelStep = time.Second
	// mostOfAll and allOfAll bound the share of a company that floods. It is refused for its own fault, so the reads of the
	// others go on. A company with nearly all punches is the only one, and there are no others.
	mostOfAll, allOfAll = 0.5, 0.99
	// degradedWait is the mean Retry-After of a request that the level refuses. The level changes within half a minute at
	// the soonest.
	degradedWait = releaseAfter
	// uploadWindow is the time over which uploads of stored punches are spread. Outboxes flush every 15 s, so a fleet that
	// lost the network together comes with a twentieth of the requests. A stored punch that waits for five minutes more
	// loses nothing.
	uploadWindow = 5 * time.Minute
)

// LevelsDeps is what Levels look at.
type LevelsDeps struct {
	// Manual returns the level that an operator has set.
	Manual func() uint8
	// Valve returns the state of the valve.
	Valve func() State
	// Target is the wait that means overload. A node with half of it is near its limit.
	Target time.Duration
	Clock  func() time.Time
}

// Levels decides which classes a node serves at all. Its level is the greater of two: the operator's, and the node's own.
// A node that refuses punches raises its own level, one by one, and lowers it again by itself.
//
// Levels has no goroutine and no timer. Each question moves it, and gossip asks for the level every second. It is safe for
// concurrent use.
type Levels struct {
	deps LevelsDeps

	busy atomic.Bool // the node refuses, or is near its limit

	mu      sync.Mutex // guards the fields below
	own     uint8
	changed time.Time // when own changed
	looked  time.Time // when the valve was asked
	refused uint64    // punches until then
	since   time.Time // the first refusal of the present or latest time of refusing
	last    time.Time // the latest refusal
}

// NewLevels makes Levels.
func NewLevels(deps LevelsDeps) (*Levels, error) {
	if deps.Manual == nil || deps.Valve == nil || deps.Clock == nil || deps.Target <= 0 {
		return nil, errors.New("levels: Manual, Valve, Target and Clock are required")
	}
	return &Levels{deps: deps}, nil
}

// Level returns the level at which the node serves.
func (l *Levels) Level() uint8 { return max(l.deps.Manual(), l.Own()) }

// Own returns the level that the node has chosen itself.
func (l *Levels) Own() uint8 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.deps.Clock(); now.Sub(l.looked) >= levelStep {
		l.look(now)
	}
	return l.own
}

// Serves reports whether the class is served at the present level. If not, it returns after which time the caller should
// come again. Punches are served at every level, and take no lock here.
func (l *Levels) Serves(class Class) (retryAfter time.Duration, ok bool) {
	highest := servedUpTo[class]
	if highest >= region.PunchesOnly || l.Level() <= highest {
		return 0, true
	}
	return degradedWait/2 + rand.N(degradedWait), false // readers must not come back together
}

// UploadAfter returns after which time a device should upload stored punches, 0 for at once. The answer refused a request
// or not.
//
// The time is random over the whole window, and drawn again for each answer. A device of which the node knows only the
// token cannot have a fixed place: many devices may share a token, and would come together. The draw begins at 0, so a
// device at a busy gate, which hears a new time with each punch, still uploads within about one window.
func (l *Levels) UploadAfter(refused bool) time.Duration {
	if !refused && !l.busy.Load() {
		return 0
	}
	return time.Second + rand.N(uploadWindow)
}

// look follows the valve.
func (l *Levels) look(now time.Time) {
	l.looked = now
	state := l.deps.Valve()
	l.busy.Store(state.Limit > 0 || state.Wait > l.deps.Target.Seconds()/2)
	// Stored punches do not count: a device that must wait with its outbox is no reason to refuse a person's reads. Reads do
	// not count either, or refusing them would hold the level.
	refused := state.Counts[Forwarded].Refused + state.Counts[Interactive].Refused
	flooded := state.LargestShare > mostOfAll && state.LargestShare < allOfAll
	if refused > l.refused && !flooded {
		if now.Sub(l.last) > calmAfter {
			l.since = now
		}
		l.last = now
	}
	l.refused = refused
	shedding := !l.last.IsZero() && now.Sub(l.last) <= calmAfter
	switch {
	case shedding && l.own < region.PunchesOnly && l.last.Sub(later(l.since, l.changed)) >= riseAfter:
		l.own, l.changed = l.own+1, now
	case !shedding && l.own > 0 && now.Sub(later(l.last, l.changed)) >= releaseAfter:
		l.own, l.changed = l.own-1, now
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
