package gossip

import (
	"sync"

	"github.com/hashicorp/memberlist"
)

// named is a broadcast that takes the place of an earlier one of its name.
type named struct {
	name string
	msg  []byte
}

var _ memberlist.NamedBroadcast = named{}

func (b named) Name() string    { return b.name }
func (b named) Message() []byte { return b.msg }
func (b named) Finished()       {}

func (b named) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(named)
	return ok && o.name == b.name
}

// queueCompanies is how many company changes wait at most, about 100 kB. What
// has been sent most often gives way.
const queueCompanies = 1024

// seenCompanies is how many changes one generation remembers, about 1 MB.
const seenCompanies = 8192

// newsroom passes company changes on: each once, the newest version of each
// company only. It remembers the last 8,192 to 16,384 companies it heard of,
// so a change may be news twice when very many change at once.
type newsroom struct {
	queue memberlist.TransmitLimitedQueue

	mu        sync.Mutex // guards seen and older, and that the queue has the newest
	seen      map[string]int64
	older     map[string]int64
	perMap    int
	queueSize int
}

func newNewsroom(numNodes func() int) *newsroom {
	return &newsroom{
		queue: memberlist.TransmitLimitedQueue{NumNodes: numNodes, RetransmitMult: retransmitMult},
		seen:  make(map[string]int64), perMap: seenCompanies, queueSize: queueCompanies,
	}
}

// publish queues the news unless it is old. It reports whether it was new, and
// how many waiting changes gave way.
func (r *newsroom) publish(n companyNews) (isNew bool, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.version <= max(r.seen[n.company], r.older[n.company]) {
		return false, 0
	}
	if len(r.seen) >= r.perMap {
		r.older, r.seen = r.seen, make(map[string]int64)
	}
	r.seen[n.company] = n.version
	if n.hops >= maxHops {
		return true, 0
	}
	r.queue.QueueBroadcast(named{name: n.company, msg: n.encode()})
	if dropped = r.queue.NumQueued() - r.queueSize; dropped > 0 {
		r.queue.Prune(r.queueSize)
	}
	return true, max(dropped, 0)
}
