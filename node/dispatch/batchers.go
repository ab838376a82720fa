package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// batchers opens a batcher for each home when the home is first needed. Homes share nothing, so that a home whose
// database is down does not delay the others.
type batchers struct {
	open    func(ctx context.Context, home region.Name) (Batcher, error)
	timeout time.Duration      // of one opening
	opening singleflight.Group // a thousand first punches of a home open one batcher

	mu     sync.RWMutex // guards the fields below
	byHome map[region.Name]Batcher
	closed bool
}

// get returns the home's batcher. An error is a *punch.Error.
func (bs *batchers) get(ctx context.Context, home region.Name) (Batcher, error) {
	if batcher := bs.find(home); batcher != nil {
		return batcher, nil
	}
	// Opening may ask the database whether the region exists. The lock is not held: other homes must not wait for it.
	opened, err, _ := bs.opening.Do(string(home), func() (any, error) { return bs.openOne(ctx, home) })
	if err == nil {
		return opened.(Batcher), nil
	}
	// A coded error goes to the caller as it is. NotHome must reach Record, which then asks the database for the home.
	if _, coded := errors.AsType[*punch.Error](err); coded {
		return nil, err
	}
	return nil, punch.Retryable(punch.Unavailable, time.Second,
		"the company's home region cannot be reached here; send the punch again with the same id", err)
}

func (bs *batchers) find(home region.Name) Batcher {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	return bs.byHome[home]
}

// openOne opens the home's batcher on behalf of every caller that waits for it. The first caller's deadline does not
// bound the opening, because the other callers may have more time.
func (bs *batchers) openOne(ctx context.Context, home region.Name) (Batcher, error) {
	if batcher := bs.find(home); batcher != nil { // an earlier opening ended between find and here
		return batcher, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bs.timeout)
	defer cancel()
	batcher, err := bs.open(ctx, home)
	if err != nil {
		return nil, err
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.closed {
		_ = batcher.Close(ctx) // it is empty: nothing can be lost
		return nil, punch.Retryable(punch.Unavailable, time.Second, "this node is shutting down; use another one", nil)
	}
	if bs.byHome == nil {
		bs.byHome = make(map[region.Name]Batcher)
	}
	bs.byHome[home] = batcher
	return batcher, nil
}

// BatcherStatus is a batcher as an operator sees it.
type BatcherStatus struct {
	Home    region.Name
	Kind    string // database or peer
	Waiting int
	Open    bool // its circuit breaker: punches of the home are refused at once
}

func (bs *batchers) status(kind string) (list []BatcherStatus) {
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	for home, batcher := range bs.byHome {
		list = append(list, BatcherStatus{Home: home, Kind: kind, Waiting: batcher.Waiting(), Open: batcher.Open()})
	}
	slices.SortFunc(list, func(a, b BatcherStatus) int { return cmp.Compare(a.Home, b.Home) })
	return list
}

// Batchers returns the batchers that have been needed so far.
func (d *Dispatch) Batchers() []BatcherStatus {
	return append(d.local.status("database"), d.remote.status("peer")...)
}

func (bs *batchers) close(ctx context.Context) error {
	bs.mu.Lock()
	bs.closed = true
	all := make([]Batcher, 0, len(bs.byHome))
	for _, batcher := range bs.byHome {
		all = append(all, batcher)
	}
	bs.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, batcher := range all {
		wg.Go(func() { errs[i] = batcher.Close(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
