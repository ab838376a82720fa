package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
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
	c.budget.call(time.Now())
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
		c.rest(list, i, err)
		wait, now := c.budget.retry(time.Now(), c.wait(attempts, err), time.Until(deadline))
		if !now {
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

// rest lets calls skip the endpoint of a failed attempt. An overloaded answer with a Retry-After is about the region: its
// nodes tell each other when they are full, so asking the next one at once would only add load. Without a Retry-After the
// endpoint itself failed, or asks the device to go elsewhere.
func (c *Client) rest(list *endpoints, i int, err *Error) {
	now := time.Now()
	after := min(err.RetryAfter, restMax)
	switch {
	case err.Status == http.StatusTooManyRequests || err.Status == http.StatusRequestTimeout:
		// The answer is about the caller or the request, and any endpoint would give it.
	case after > 0 && err.Code == punch.Overloaded:
		list.skipRegion(i, now.Add(after))
	case after > 0:
		list.skip(i, now.Add(after))
	default:
		list.failed(i, now, c.cfg.Backoff.CoolDown)
	}
}

// leastSpread is the least jitter on top of a Retry-After. A thousand devices that got the same header then come back over
// a second, not at one moment.
const leastSpread = time.Second

// wait is the time before the next attempt. Retry-After applies to every endpoint: a home whose database is down is down
// through all of them. The jitter on top is up to half of the Retry-After, so that devices spread further the longer they
// wait together.
func (c *Client) wait(attempts int, err *Error) time.Duration {
	b := c.cfg.Backoff
	limit := b.Max
	if shift := attempts - 1; shift < 63 && b.Base <= b.Max>>shift { // the shift below cannot overflow then
		limit = b.Base << shift
	}
	after := min(err.RetryAfter, b.RetryAfterMax)
	if after > 0 {
		limit = max(limit, after/2, leastSpread)
	}
	return after + rand.N(limit+1)
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
