package dispatch

import (
	"math/rand/v2"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Rates limits how often punches arrive at this node. Its refusals are RateLimited.
type Rates interface {
	Company(company string, perSecond int, at time.Time) error
	// Employee says with a refusal whether the punch may be looked up.
	Employee(p *punch.Punch) (lookUp bool, err error)
}

const (
	// suspendedFor is the longest Retry-After of a suspended company. Its devices ask four times an hour, which costs
	// little, and they are back soon after it was resumed early.
	suspendedFor = 15 * time.Minute
	// suspendedSpread is added at random. The devices have stored all their punches, and must not return together.
	suspendedSpread = 5 * time.Minute
)

// admit refuses a punch before it is sent to its home. lookUp says that a punch that is recorded already gets its receipt
// all the same. A company's own limits do not look up: a look-up costs more than a write, and the company sends too much.
func (d *Dispatch) admit(home region.Home, p *punch.Punch, dispatch int) (lookUp bool, refusal error) {
	if home.SuspendedAt(p.ReceivedAt) {
		return false, suspended(home, p.ReceivedAt)
	}
	if dispatch == 1 && d.deps.Rates != nil { // a second dispatch is no second arrival
		if err := d.deps.Rates.Company(p.Company, home.RateLimit, p.ReceivedAt); err != nil {
			return false, err
		}
		if lookUp, err := d.deps.Rates.Employee(p); err != nil {
			return lookUp, err
		}
	}
	ahead := p.CheckClock(d.cfg.MaxFutureSkew)
	return ahead != nil, ahead
}

func suspended(home region.Home, now time.Time) error {
	wait, until := suspendedFor, ""
	if !home.SuspendedUntil.IsZero() {
		wait = min(wait, home.SuspendedUntil.Sub(now))
		until = " until " + home.SuspendedUntil.Format(time.RFC3339)
	}
	return punch.Retryable(punch.Suspended, wait+rand.N(suspendedSpread),
		"an operator has suspended the company"+until+"; keep the punch and send it again with the same id", nil)
}
