package dispatch

import (
	"sync"
	"time"
)

// budget bounds the load that retries add to the remaining peers: one punch in five of the last ten seconds. Without it, a
// region that answers slowly would be asked twice for everything. The local fallback needs no budget.
type budget struct {
	mu    sync.Mutex // guards slots
	slots [budgetSeconds]slot
}

// slot counts the punches of one second.
type slot struct {
	second        int64 // Unix time; a slot of an older second counts as empty
	sent, retried int   // punches
}

const (
	retryShare = 0.2
	// budgetSeconds covers the punches in flight towards a peer that freezes: its calls fail for two seconds, a fifth of
	// ten.
	budgetSeconds = 10
	// minRetries is one batch of the usual size. In a quiet hour, too, the first failed batch may go to the second
	// candidate.
	minRetries = 512
)

// sent counts punches that were sent to their first candidate.
func (b *budget) sent(now time.Time, punches int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at(now).sent += punches
}

// spend takes retries from the budget and reports whether there were enough.
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
	if float64(retried) > max(retryShare*float64(sent), minRetries) {
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
