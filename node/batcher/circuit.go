package batcher

import "time"

// circuit keeps callers from waiting for a home whose writes no longer work.
// It opens once no write has worked for openAfter although some were under
// way, and lets one item in probeEvery through until one works again. What a
// write says of an item, such as a conflict, is a write that worked. The
// lane's lock guards it.
type circuit struct {
	silentSince time.Time // when the oldest write began since which none worked; zero while all is well
	probedAt    time.Time
	writing     int
}

const (
	// openAfter outlasts the hand-over of a crashed database region, which
	// takes 2 to 7 s, and leaves a third of the default deadline: callers
	// are told to come back rather than held until they give up.
	openAfter = 10 * time.Second
	// probeEvery is how soon a home that came back is noticed.
	probeEvery = time.Second
	// retryAfter is what refused callers are told: soon enough to see a home
	// that came back, and twice the probes' interval.
	retryAfter = 2 * time.Second
)

func (c *circuit) open(now time.Time) bool {
	return !c.silentSince.IsZero() && now.Sub(c.silentSince) > openAfter
}

// admits reports whether an item may enter, which for an open circuit makes it
// the probe.
func (c *circuit) admits(now time.Time) bool {
	if !c.open(now) {
		return true
	}
	if now.Sub(c.probedAt) < probeEvery {
		return false
	}
	c.probedAt = now
	return true
}

func (c *circuit) began(now time.Time) {
	c.writing++
	if c.silentSince.IsZero() {
		c.silentSince = now
	}
}

func (c *circuit) ended(now time.Time, worked bool) {
	c.writing--
	switch {
	case worked && c.writing > 0:
		c.silentSince = now // the others have this long from now on
	case worked, c.writing == 0 && !c.open(now):
		// A lone write that failed before the circuit opened says little
		// of the next one, which may come hours later.
		c.silentSince = time.Time{}
	}
}
