package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

const (
	// regionsMaxAge is how old the list of the database's regions may get. A region that was added or removed shows in
	// the metrics by then. Punches of a new region do not wait for it.
	regionsMaxAge = time.Minute
	// regionsRetry is the pause between two attempts to read an old list again, and the time limit of one attempt.
	regionsRetry = 5 * time.Second
	// regionsAskAgain bounds how often an unknown region in a punch makes the node read the list.
	regionsAskAgain = time.Second
)

// knownRegions is the list of the regions that the database has.
type knownRegions struct {
	read func(ctx context.Context) ([]string, error)
	log  *slog.Logger

	mu     sync.Mutex // guards the fields below, and is not held while the database is read
	list   []region.Name
	readAt time.Time // when the list was read
	asked  time.Time // when an unknown region last made the node read it
}

// check returns NotHome for a region that the database does not have: its companies have moved, and a new look into
// the directory finds their home. A region that was added a moment ago is found in the database.
func (k *knownRegions) check(ctx context.Context, home region.Name) error {
	k.mu.Lock()
	known := slices.Contains(k.list, home)
	due := !known && time.Since(k.asked) > regionsAskAgain
	if due {
		k.asked = time.Now() // punches that come meanwhile get the answer that is known
	}
	k.mu.Unlock()
	if due {
		list, err := k.refresh(ctx)
		if err != nil {
			return err
		}
		known = slices.Contains(list, home)
	}
	if !known {
		return punch.Errorf(punch.NotHome, "the database has no region %s", home)
	}
	return nil
}

// all returns the regions. The caller must not change the list.
func (k *knownRegions) all() []region.Name {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list
}

// refresh reads the list. It waits for the database until ctx ends.
func (k *knownRegions) refresh(ctx context.Context) ([]region.Name, error) {
	labels, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]region.Name, 0, len(labels))
	for _, label := range labels {
		list = append(list, region.Name(label))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list, k.readAt = list, time.Now()
	return list, nil
}

// keepFresh reads the list again whenever it has become old, until ctx ends.
func (k *knownRegions) keepFresh(ctx context.Context) {
	tick := time.NewTicker(regionsRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k.mu.Lock()
		old := time.Since(k.readAt) >= regionsMaxAge
		k.mu.Unlock()
		if !old {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, regionsRetry)
		if _, err := k.refresh(attempt); err != nil && ctx.Err() == nil {
			k.log.InfoContext(ctx, "the database's regions cannot be read again; the old list stays in use", "error", err)
		}
		cancel()
	}
}
