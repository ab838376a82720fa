package dispatch

import (
	"sync"
	"time"
)

// budget bounds what retries add to the load of the peers that are left: one
// punch in five of the last ten seconds. Without it a region that answers slowly
// would be asked twice for everything. The local fallback needs no budget.
type budget struct {
	mu    sync.Mutex // guards slots
	slots [budgetSeconds]slot
}

// slot is what happened in one second.
type slot struct {
	second        int64 // of the Unix time; an older one is empty
	sent, retried int   // punches
}

const (
	retryShare = 0.2
	// budgetSeconds covers what is in flight towards a peer when it freezes:
	// its calls fail for two seconds, and those are a fifth of ten.
	budgetSeconds = 10
	// retryAlways is one batch of the usual size: in a quiet hour the first
	// failure may go to the second candidate, too.
	retryAlways = 512
)

// sent takes in punches that were sent to their first candidate.
func (b *budget) sent(now time.Time, punches int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at(now).sent += punches
}

// spend takes from the budget and reports whether there was enough.
func (b *budget) spend(now time.Time, punches int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	current := b.at(now)
	sent, retried := 0, punches
	for _, s := range b.slots {
		if current.second-s.second < budgetSeconds {
			sent, retried = sent+s.sent, retried+s.retried
		}
	}
	if float64(retried) > max(retryShare*float64(sent), retryAlways) {
		return false
	}
	current.retried += punches
	return true
}

// at returns the slot of now. The lock is held.
func (b *budget) at(now time.Time) *slot {
	second := now.Unix()
	s := &b.slots[second%budgetSeconds]
	if s.second != second {
		*s = slot{second: second}
	}
	return s
}
