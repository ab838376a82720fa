package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// settle tries until an attempt succeeds, its error needs somebody to act, or
// no time is left for another one. It returns how many attempts it made. While
// there is an endpoint that this call has not asked, an attempt gets no more
// than patience.
func (c *Client) settle(ctx context.Context, patience time.Duration, try func(ctx context.Context, endpoint string) *Error) (int, *Error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.TotalTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	attempts, last := 0, none
	endpoints := c.endpoints.Load() // the same ones for the whole call
	for {
		i := endpoints.pick(last, time.Now())
		attempts++
		timeout := c.cfg.AttemptTimeout
		if attempts < len(endpoints.urls) {
			timeout = min(timeout, patience)
		}
		err := c.attempt(ctx, timeout, endpoints.urls[i], try)
		if err == nil {
			endpoints.worked(i)
			return attempts, nil
		}
		err.Endpoint, err.Attempts = endpoints.urls[i], attempts
		if ctx.Err() != nil || !err.again() {
			return attempts, err
		}
		endpoints.failed(i, time.Now().Add(c.rest(err)))
		wait := c.wait(attempts, err)
		if time.Until(deadline) <= wait {
			err.RetryAfter = wait
			return attempts, err
		}
		if cause := sleep(ctx, wait); cause != nil {
			err.Err = errors.Join(err.Err, cause)
			return attempts, err
		}
		last = i
	}
}

func (c *Client) attempt(ctx context.Context, timeout time.Duration, endpoint string, try func(context.Context, string) *Error) *Error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return try(ctx, endpoint)
}

// rest is for how long the endpoint of a failed attempt is passed over: as
// long as it asked for, the cool-down when it said nothing, and not at all when
// the answer was about the caller or the request and not about the endpoint.
func (c *Client) rest(err *Error) time.Duration {
	switch {
	case err.Status == http.StatusTooManyRequests || err.Status == http.StatusRequestTimeout:
		return 0
	case err.RetryAfter > 0:
		return min(err.RetryAfter, c.cfg.Backoff.RetryAfterMax)
	default:
		return c.cfg.Backoff.CoolDown
	}
}

// wait is the time before the next attempt. Retry-After is a wish of the whole
// service (a home whose database is away is away through every endpoint), and
// the jitter on top keeps the devices that heard it from coming back at once.
func (c *Client) wait(attempts int, err *Error) time.Duration {
	b := c.cfg.Backoff
	limit := b.Max
	if shift := attempts - 1; shift < 63 && b.Base <= b.Max>>shift { // so that it cannot overflow
		limit = b.Base << shift
	}
	return min(err.RetryAfter, b.RetryAfterMax) + rand.N(limit+1)
}

// sleep waits for d and returns nil, or why it did not.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// none is the endpoint before the first attempt.
const none = -1

// ring is the endpoints in order of preference, and which of them rest.
type ring struct {
	urls []string
	mu   sync.Mutex // guards until
	// until is the time before which an endpoint is passed over.
	until []time.Time
}

func newRing(urls []string) *ring {
	return &ring{urls: urls, until: make([]time.Time, len(urls))}
}

// pick returns the first endpoint that does not rest and was not just tried,
// else the one after the last tried: a call never gives up while there is time.
func (r *ring) pick(last int, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.urls {
		if i != last && !now.Before(r.until[i]) {
			return i
		}
	}
	return (last + 1) % len(r.urls)
}

func (r *ring) failed(i int, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until[i] = until
}

// worked ends the rest of an endpoint that answered although it rested.
func (r *ring) worked(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until[i] = time.Time{}
}
