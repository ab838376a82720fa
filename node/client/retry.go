package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// do tries until an attempt succeeds, its error needs a person, or no time is left for another attempt. It returns the
// number of attempts. An attempt gets at most firstTimeout while there is an endpoint that this call has not asked.
func (c *Client) do(
	ctx context.Context, firstTimeout time.Duration, try func(ctx context.Context, endpoint string) *Error,
) (int, *Error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.TotalTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	attempts, last := 0, none
	var doubted []int          // endpoints that answered clock_ahead, each as often as it did
	denied := false            // an endpoint answered unauthenticated
	list := c.endpoints.Load() // a Refresh does not change the endpoints of a call under way
	for {
		i := list.pick(last, doubted, time.Now())
		attempts++
		timeout := c.cfg.AttemptTimeout
		if attempts < len(list.urls) {
			timeout = min(timeout, firstTimeout)
		}
		err := c.attempt(ctx, timeout, list.urls[i], try)
		if err == nil {
			list.worked(i)
			return attempts, nil
		}
		err.Endpoint, err.Attempts, last = list.urls[i], attempts, i
		// Until a node knows that its clock is wrong, it refuses good tokens as expired or not yet valid. So one other
		// endpoint is asked before the token counts as bad.
		if err.Code == punch.Unauthenticated && !denied && len(list.urls) > 1 && ctx.Err() == nil {
			denied = true
			continue
		}
		if ctx.Err() != nil || !err.retryable() {
			return attempts, err
		}
		if err.Code == punch.ClockAhead {
			if len(doubted) == 0 {
				list = c.withOthers(ctx, list)
			}
			if doubted = append(doubted, i); len(doubted) >= max(minClockAnswers, len(list.urls)) {
				return attempts, err
			}
			c.http.CloseIdleConnections() // behind a load balancer a new connection may reach another node
			continue
		}
		list.failed(i, time.Now().Add(c.coolDown(err)))
		wait := c.wait(attempts, err)
		if time.Until(deadline) <= wait {
			err.RetryAfter = wait
			return attempts, err
		}
		if cause := sleep(ctx, wait); cause != nil {
			err.Err = errors.Join(err.Err, cause)
			return attempts, err
		}
	}
}

func (c *Client) attempt(ctx context.Context, timeout time.Duration, endpoint string, try func(context.Context, string) *Error) *Error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return try(ctx, endpoint)
}

// coolDown is the time for which calls skip the endpoint of a failed attempt: the time that it asked for, or else the
// configured one. It is 0 if the answer was about the caller or the request and not about the endpoint.
func (c *Client) coolDown(err *Error) time.Duration {
	switch {
	case err.Status == http.StatusTooManyRequests || err.Status == http.StatusRequestTimeout:
		return 0
	case err.RetryAfter > 0:
		return min(err.RetryAfter, c.cfg.Backoff.RetryAfterMax)
	default:
		return c.cfg.Backoff.CoolDown
	}
}

// wait is the time before the next attempt. Retry-After applies to every endpoint: a home whose database is down is down
// through all of them. The jitter on top spreads the devices that got the same Retry-After.
func (c *Client) wait(attempts int, err *Error) time.Duration {
	b := c.cfg.Backoff
	limit := b.Max
	if shift := attempts - 1; shift < 63 && b.Base <= b.Max>>shift { // the shift below cannot overflow then
		limit = b.Base << shift
	}
	return min(err.RetryAfter, b.RetryAfterMax) + rand.N(limit+1)
}

// sleep waits for d and returns nil, or returns the cause of the end of ctx.
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

// none is the index of the endpoint before the first attempt.
const none = -1

// endpoints are base URLs in order of preference, with the time until which calls skip each.
type endpoints struct {
	urls []string
	mu   sync.Mutex // guards until
	// until is the time before which calls skip an endpoint.
	until []time.Time
}

func newEndpoints(urls []string) *endpoints {
	return &endpoints{urls: urls, until: make([]time.Time, len(urls))}
}

// pick returns the first endpoint that calls need not skip and that was not just tried. Without one it returns the
// endpoint behind the last tried: a call never gives up while there is time. Doubted endpoints come last.
func (e *endpoints) pick(last int, doubted []int, now time.Time) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	undoubted := none
	for i := range e.urls {
		if i == last || slices.Contains(doubted, i) {
			continue
		}
		if !now.Before(e.until[i]) {
			return i
		}
		if undoubted == none {
			undoubted = i
		}
	}
	if undoubted != none && len(doubted) > 0 {
		return undoubted
	}
	return (last + 1) % len(e.urls)
}

func (e *endpoints) failed(i int, until time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.until[i] = until
}

// worked lets calls use an endpoint again at once: it answered although calls should have skipped it.
func (e *endpoints) worked(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.until[i] = time.Time{}
}
