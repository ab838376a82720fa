package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// lookupInterval is the pause between two look-ups. The first has taken as long as the database was given, or has failed
// at once because the database is down.
const lookupInterval = 200 * time.Millisecond

// lookupWithRetry looks the home up again while the deadline allows. One look-up during a failover must not refuse a
// company that is not in memory.
func lookupWithRetry(ctx context.Context, company string, lookup func(context.Context, string) (region.Home, error)) (region.Home, error) {
	for {
		home, err := lookup(ctx, company)
		if err == nil || errors.Is(err, region.ErrUnknownCompany) || errors.Is(err, region.ErrBusy) || errors.Is(err, region.ErrClosed) {
			return home, err
		}
		select {
		case <-ctx.Done():
			return region.Home{}, err
		case <-time.After(lookupInterval):
		}
	}
}

// routeTo returns the route of a punch that happened at the given time.
func routeTo(home region.Home, at time.Time) punch.Route {
	_, offset := at.In(home.Zone).Zone()
	return punch.Route{HomeRegion: string(home.Region), Epoch: home.Epoch, Zone: home.Zone.String(), UTCOffset: int32(offset)}
}

// toPunchError says what a failed look-up means for the caller.
func toPunchError(company string, err error) error {
	switch {
	case errors.Is(err, region.ErrUnknownCompany):
		return punch.Errorf(punch.UnknownCompany, "there is no company %s", company)
	case errors.Is(err, region.ErrBusy):
		return punch.Retryable(punch.Overloaded, time.Second, "too many requests for a company that was unknown a moment ago; retry in 1 s", err)
	default:
		return punch.Retryable(punch.Unavailable, time.Second, "could not find the company's home region; retry with the same id", err)
	}
}
