package region

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// retryRefresh is how long a failed background read waits for the next one.
// Without it every punch would start one for as long as the database is away.
const retryRefresh = 5 * time.Second

// refreshTimes says when an entry is read anew.
type refreshTimes struct{ after time.Duration }

// spread draws from the last quarter of the time, or all companies preloaded
// at once would be read again at once.
func (r refreshTimes) spread() time.Duration {
	return r.after - rand.N(r.after/4+1)
}

func (r refreshTimes) RefreshAfterCreate(otter.Entry[string, known]) time.Duration {
	return r.spread()
}

func (r refreshTimes) RefreshAfterUpdate(otter.Entry[string, known], known) time.Duration {
	return r.spread()
}

func (r refreshTimes) RefreshAfterReload(otter.Entry[string, known], known) time.Duration {
	return r.spread()
}

func (r refreshTimes) RefreshAfterReloadFailure(otter.Entry[string, known], error) time.Duration {
	return min(retryRefresh, r.after)
}

// tasks runs goroutines until it is closed, and waits for them.
type tasks struct {
	mu      sync.Mutex // guards closed, and orders start before close
	closed  bool
	running sync.WaitGroup
}

// start runs fn on a goroutine. After close it still does, unwaited for: the
// cache must never find its work undone or run on its caller's locks.
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
