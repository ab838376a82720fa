package admission

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	// shortestPause is a second: Retry-After has no smaller unit.
	shortestPause = 1.0
	// longestPause bounds Retry-After. A caller that stays away for longer does not see that the rush is over.
	longestPause = 60.0
)

// pause chooses Retry-After. The callers that wait for their next attempt cannot be counted, but the refused share
// shows them: while more than half of all arrivals is refused, the pause grows. So the callers that come again stay about
// as many as can be served, and refusing them stays cheap.
type pause struct {
	seconds           float64
	share             float64 // of the items that were refused lately
	admitted, refused int     // in this window
}

func newPause() pause { return pause{seconds: shortestPause} }

func (p *pause) tick(took float64, unlimited bool) {
	if all := p.admitted + p.refused; all > 0 {
		weight := 1 - math.Exp(-took/0.5) // half a second: enough items for a share
		p.share += (float64(p.refused)/float64(all) - p.share) * weight
	}
	p.admitted, p.refused = 0, 0
	switch {
	case unlimited:
		p.share, p.seconds = 0, shortestPause
	case p.share > 0.5:
		p.seconds = min(longestPause, p.seconds*math.Exp(0.25*took))
	case p.share < 0.25:
		p.seconds = max(shortestPause, p.seconds*math.Exp(-0.5*took))
	}
}

// next returns a pause between half of the mean and one and a half. Callers that were refused together thus come again at
// different times. A device with stored punches has twice the time of a person.
func (p *pause) next(class Class) time.Duration {
	seconds := p.seconds * (0.5 + rand.Float64())
	if class == Stored {
		seconds *= 2
	}
	return time.Duration(max(shortestPause, seconds) * float64(time.Second))
}
