package batcher

import "time"

// breaker is the circuit breaker of one home. It keeps callers from waiting for a home whose writes no longer succeed. It
// opens when no write has succeeded for openAfter although some were under way. Then it admits one item in probeEvery,
// until a write succeeds. A write that refuses an item, for example as a conflict, has succeeded. The batcher's lock
// guards it.
//
// An open breaker is a statement about now. With no write under way, and none finished within forgetAfter, it has no
// evidence any more and is closed. Otherwise a batcher that gets no traffic after an outage would stay open for ever,
// and DNS would lead a healthy region's clients elsewhere.
type breaker struct {
	noSuccessSince time.Time // start of the oldest write since the last success; zero when healthy
	lastFinished   time.Time // when the last write finished
	probedAt       time.Time
	writing        int
}

const (
	// openAfter outlasts the lease hand-over of a crashed database region, which takes 2 to 7 s. It leaves a third of the
	// default punch time-out, so that callers are told to come back before they give up.
	openAfter = 10 * time.Second
	// probeEvery is how soon an open breaker notices that the home is back.
	probeEvery = time.Second
	// retryAfter is what refused callers are told: twice the interval of the probes.
	retryAfter = 2 * time.Second
	// forgetAfter is how long the last failure counts when no further write is tried. An alert waits for a minute of an
	// open breaker, and one punch a minute must be enough to raise it.
	forgetAfter = time.Minute
)

func (b *breaker) open(now time.Time) bool {
	return !b.noSuccessSince.IsZero() && now.Sub(b.noSuccessSince) > openAfter && !b.forgotten(now)
}

// forgotten reports whether the last evidence is too old to count.
func (b *breaker) forgotten(now time.Time) bool {
	return b.writing == 0 && now.Sub(b.lastFinished) > forgetAfter
}

// admits reports whether an item may enter. An open breaker admits it as the probe.
func (b *breaker) admits(now time.Time) bool {
	if !b.open(now) {
		return true
	}
	if now.Sub(b.probedAt) < probeEvery {
		return false
	}
	b.probedAt = now
	return true
}

func (b *breaker) writeStarted(now time.Time) {
	if b.noSuccessSince.IsZero() || b.forgotten(now) {
		b.noSuccessSince = now
	}
	b.writing++
}

func (b *breaker) writeFinished(now time.Time, succeeded bool) {
	b.writing--
	b.lastFinished = now
	switch {
	case succeeded && b.writing > 0:
		b.noSuccessSince = now // the writes still under way have openAfter from now on
	case succeeded, b.writing == 0 && !b.open(now):
		// A lone write that failed before the breaker opened says little of the next one, which may come hours later.
		b.noSuccessSince = time.Time{}
	}
}
