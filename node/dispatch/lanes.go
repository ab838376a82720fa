package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// lanes opens a lane for each home when it is first needed. One home's lane
// knows nothing of another's.
type lanes struct {
	open func(ctx context.Context, home region.Name) (Lane, error)

	mu     sync.RWMutex // guards what follows
	byHome map[region.Name]Lane
	closed bool
}

func (ls *lanes) get(ctx context.Context, home region.Name) (Lane, error) {
	ls.mu.RLock()
	lane, ok := ls.byHome[home]
	ls.mu.RUnlock()
	if ok {
		return lane, nil
	}
	// Opening may ask the database whether the region exists, so the lock is
	// not held: lanes of other homes must not wait for it.
	lane, err := ls.open(ctx, home)
	if err != nil {
		return nil, punch.Retryable(punch.Unavailable, time.Second, "the company's home region is not open here; send the punch again with the same id", err)
	}
	return ls.keep(home, lane)
}

func (ls *lanes) keep(home region.Name, lane Lane) (Lane, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	other, taken := ls.byHome[home]
	switch {
	case taken || ls.closed:
		_ = lane.Close(context.Background()) // it is empty: there is nothing to wait for
		if !taken {
			return nil, punch.Retryable(punch.Unavailable, time.Second, "this node is shutting down; use another one", nil)
		}
		return other, nil
	case ls.byHome == nil:
		ls.byHome = make(map[region.Name]Lane)
	}
	ls.byHome[home] = lane
	return lane, nil
}

// LaneStatus is a lane as an operator sees it.
type LaneStatus struct {
	Home    region.Name
	Way     string // database or peer
	Waiting int
	Open    bool // its circuit: punches of the home are refused at once
}

func (ls *lanes) status(way string) (list []LaneStatus) {
	ls.mu.RLock()
	defer ls.mu.RUnlock()
	for home, lane := range ls.byHome {
		list = append(list, LaneStatus{Home: home, Way: way, Waiting: lane.Waiting(), Open: lane.Open()})
	}
	slices.SortFunc(list, func(a, b LaneStatus) int { return cmp.Compare(a.Home, b.Home) })
	return list
}

// Lanes returns the lanes that have been needed so far.
func (d *Dispatch) Lanes() []LaneStatus {
	return append(d.local.status("database"), d.remote.status("peer")...)
}

func (ls *lanes) close(ctx context.Context) error {
	ls.mu.Lock()
	ls.closed = true
	all := make([]Lane, 0, len(ls.byHome))
	for _, lane := range ls.byHome {
		all = append(all, lane)
	}
	ls.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, lane := range all {
		wg.Go(func() { errs[i] = lane.Close(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
