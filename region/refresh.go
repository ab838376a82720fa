package region

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// retryRefresh is the time between a failed background read and the next one. Without this limit every punch would
// start a read while the database is away.
const retryRefresh = 5 * time.Second

// refreshTimes tells the cache when to read an entry again.
type refreshTimes struct{ after time.Duration }

// spread returns a random time in the last quarter of the interval. Otherwise all preloaded companies would be read
// again in the same moment.
func (r refreshTimes) spread() time.Duration {
	return r.after - rand.N(r.after/4+1)
}

func (r refreshTimes) RefreshAfterCreate(otter.Entry[string, entry]) time.Duration {
	return r.spread()
}

func (r refreshTimes) RefreshAfterUpdate(otter.Entry[string, entry], entry) time.Duration {
	return r.spread()
}

func (r refreshTimes) RefreshAfterReload(otter.Entry[string, entry], entry) time.Duration {
	return r.spread()
}

func (r refreshTimes) RefreshAfterReloadFailure(otter.Entry[string, entry], error) time.Duration {
	return min(retryRefresh, r.after)
}

// tasks runs goroutines, and close waits for them.
type tasks struct {
	mu      sync.Mutex // guards closed, and orders start before close
	closed  bool
	running sync.WaitGroup
}

// start runs fn on a goroutine. After close it still runs fn, and nothing waits for fn: the cache relies on its tasks,
// and would otherwise run them while it holds its caller's locks.
func (t *tasks) start(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		go fn()
		return
	}
	t.running.Go(fn)
}

func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.running.Wait()
}
