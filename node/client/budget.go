package client

import (
	"sync"
	"time"
)

// Budget bounds the retries of a Client, so that a service in trouble does not get a multiple of its load. It is a bucket
// of tokens. Each call adds Ratio tokens, time adds one token every Every, and each retry takes one.
//
// A retry without a token waits for one. A call that has no time for that returns an error that is not final, and its
// punch stays with the caller. No punch is given up for lack of budget.
type Budget struct {
	// Ratio is 0.2 by default. A service that refuses everything then gets at most a fifth more requests.
	Ratio float64
	// Reserve is the size of the bucket, which is full at the start. The default is 5, enough to ask five other endpoints.
	Reserve float64
	// Every is 15 s by default. A device with a single punch may always retry, but slowly.
	Every time.Duration
}

const (
	defaultBudgetRatio   = 0.2
	defaultBudgetReserve = 5
	defaultBudgetEvery   = 15 * time.Second
)

// bucket is the tokens of a Budget.
type bucket struct {
	cfg Budget

	mu     sync.Mutex // guards the fields below
	tokens float64    // negative while retries wait for their tokens
	at     time.Time  // of tokens
}

func newBucket(cfg Budget) *bucket { return &bucket{cfg: cfg, tokens: cfg.Reserve} }

// call adds the tokens of a first attempt.
func (b *bucket) call(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(now, b.cfg.Ratio)
}

// retry takes a token for a retry. The retry should wait at least so long, and must come before the time that is left.
// retry returns the time to wait, and false if that is too long. It takes no token then.
func (b *bucket) retry(now time.Time, wait, left time.Duration) (time.Duration, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(now, 0)
	if missing := 1 - b.tokens; missing > 0 {
		wait = max(wait, time.Duration(missing*float64(b.cfg.Every)))
	}
	if wait >= left {
		return wait, false
	}
	b.tokens--
	return wait, true
}

// add needs the lock.
func (b *bucket) add(now time.Time, tokens float64) {
	if !b.at.IsZero() {
		tokens += max(0, now.Sub(b.at).Seconds()) / b.cfg.Every.Seconds()
	}
	b.at = now
	b.tokens = min(b.tokens+tokens, b.cfg.Reserve)
}
