package region

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// suspensionAge is the age up to which memory alone may say that a company is suspended. A device that is refused
	// comes back after a quarter of an hour, so a resumed company must be known before that refusal.
	suspensionAge = 2 * time.Second
	// recheckTimeout bounds the wait of a punch for that read. A commit in another region takes up to a second.
	recheckTimeout = time.Second
)

// recheck says when the suspension of a company must be read again. All copies of an entry share one recheck.
type recheck struct{ at atomic.Int64 } // Unix time in nanoseconds

// newRecheck returns nil for a company that is not suspended.
func newRecheck(home Home, at time.Time) *recheck {
	if !home.Suspended {
		return nil
	}
	r := new(recheck)
	if !at.IsZero() {
		r.at.Store(at.UnixNano())
	}
	return r
}

func (r *recheck) due(now time.Time) bool { return r != nil && now.UnixNano() >= r.at.Load() }

// recheckSuspension asks the source whether the company of k is still suspended. Without an answer the old home counts
// for a while: a suspended company must not wait for a database that is away.
func (d *Directory) recheckSuspension(ctx context.Context, company string, k entry) (Home, error) {
	bounded, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	home, err := d.Refresh(bounded, company)
	if err == nil || errors.Is(err, ErrUnknownCompany) {
		return home, err
	}
	if ctx.Err() == nil { // a caller that gave up says nothing about the source
		k.recheck.at.Store(time.Now().Add(retryRefresh).UnixNano())
	}
	return k.Home, nil
}
