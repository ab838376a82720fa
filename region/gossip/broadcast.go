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

// ballast is a message that is too long for any packet. It keeps a queue from
// ever being empty: when the only message of an empty queue is replaced,
// memberlist 0.7 numbers anew from below the replacement, and a later message
// of the same number and length overwrites it.
var ballast = named{name: "ballast, never sent", msg: make([]byte, packetSize+1)}

// outbox is a bounded queue of messages to gossip, each of which is sent a few
// times to random nodes.
type outbox struct {
	queue memberlist.TransmitLimitedQueue
	bound int
}

func newOutbox(numNodes func() int, transmits, bound int) *outbox {
	o := &outbox{bound: bound}
	o.queue.NumNodes, o.queue.RetransmitMult = numNodes, transmits
	o.queue.QueueBroadcast(ballast)
	return o
}

// put queues a message in the place of an earlier one of that name. It returns
// how many others gave way: those that were sent most often.
func (o *outbox) put(name string, msg []byte) (dropped int) {
	o.queue.QueueBroadcast(named{name: name, msg: msg})
	if dropped = o.waiting() - o.bound; dropped > 0 {
		o.queue.Prune(o.bound + 1) // and the ballast, which is last to go
	}
	return max(dropped, 0)
}

// waiting returns how many messages are to be sent still.
func (o *outbox) waiting() int { return o.queue.NumQueued() - 1 }

// take returns messages that fit into limit bytes, at most a packet's, with
// overhead bytes before each.
func (o *outbox) take(overhead, limit int) [][]byte {
	return o.queue.GetBroadcasts(overhead, min(limit, packetSize))
}

// queueCompanies is how many company changes wait at most, about 100 kB.
const queueCompanies = 1024

// queueLoads is how many loads wait at most: one for each node of the largest
// pool one can think of.
const queueLoads = 1024

// seenCompanies is how many changes one generation remembers, about 1 MB.
const seenCompanies = 8192

// newsroom passes company changes and switches on: each once, the newest
// version of each company or region only. It remembers the last 8,192 to 16,384 companies it heard of,
// so a change may be news twice when very many change at once.
type newsroom struct {
	outbox *outbox

	mu     sync.Mutex // guards seen and older, and that the outbox has the newest
	seen   map[string]int64
	older  map[string]int64
	perMap int
}

func newNewsroom(numNodes func() int) *newsroom {
	return &newsroom{
		outbox: newOutbox(numNodes, retransmitMult, queueCompanies),
		seen:   make(map[string]int64), perMap: seenCompanies,
	}
}

// publish queues the news unless it is old. It reports whether it was new, and
// how many waiting changes gave way.
func (r *newsroom) publish(n news) (isNew bool, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := n.key()
	if n.number() <= max(r.seen[key], r.older[key]) {
		return false, 0
	}
	if len(r.seen) >= r.perMap {
		r.older, r.seen = r.seen, make(map[string]int64)
	}
	r.seen[key] = n.number()
	if n.passedOn() >= maxHops {
		return true, 0
	}
	return true, r.outbox.put(key, n.encode())
}
