package client

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// minClockAnswers is how many answers of clock_ahead a call gets before it gives up finding a second node. A load
// balancer may send two requests to the same node.
const minClockAnswers = 3

// maxOthers bounds the endpoints that a call learns to find a second node. A device may not reach them, and each costs a
// time-out then.
const maxOthers = 3

// clockCheck collects the nodes that call one punch ahead of its time. One node is not enough: its own clock may be
// wrong, and then it refuses the punches of every correct device.
type clockCheck struct {
	node, endpoint string        // the first that said so
	ahead          time.Duration // the smaller value of all answers
}

// hear looks at the error of an attempt. It confirms a clock_ahead when a second node says the same. Beyond limit a
// confirmed error is final: the punch must not be recorded with that time.
func (c *clockCheck) hear(e *Error, limit time.Duration) {
	if e.Code != punch.ClockAhead {
		return
	}
	node := cmp.Or(e.Node, e.Endpoint)
	if c.node == "" {
		c.node, c.endpoint, c.ahead = node, e.Endpoint, e.RetryAfter
		return
	}
	c.ahead = min(c.ahead, e.RetryAfter) // the careful direction: a final error needs a person
	e.Confirmed = c.node != node
	e.Final = e.Confirmed && c.ahead > limit
}

// skipWrongClock is called after a node recorded a punch. If another node had called it ahead, the client skips the
// endpoint of that node for a while.
func (c *Client) skipWrongClock(check *clockCheck) {
	if check.endpoint == "" {
		return
	}
	e := c.endpoints.Load()
	if i := slices.Index(e.urls, check.endpoint); i >= 0 {
		e.skip(i, time.Now().Add(c.cfg.Backoff.CoolDown))
	}
}

// withOthers returns e and, if e has a single endpoint, some endpoints that the service names. A call needs them to ask a
// second node. Without an answer it returns e.
func (c *Client) withOthers(ctx context.Context, e *endpoints) *endpoints {
	if len(e.urls) > 1 {
		return e
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.FirstAttemptTimeout)
	defer cancel()
	answer, err := c.send(ctx, e.urls[0], http.MethodGet, "/v1/regions", nil, maxBatchBytes)
	if err != nil {
		return e
	}
	regions, err := answer.regions()
	if err != nil {
		return e
	}
	others := slices.DeleteFunc(Order(regions, nil, e.urls), func(url string) bool { return url == e.urls[0] })
	return e.with(append(slices.Clone(e.urls), others[:min(len(others), maxOthers)]...), regions)
}
