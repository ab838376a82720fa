package gossip

import (
	"github.com/hashicorp/memberlist"
)

// broadcast is a message that replaces an earlier message of the same name.
type broadcast struct {
	name string
	msg  []byte
}

var _ memberlist.NamedBroadcast = broadcast{}

func (b broadcast) Name() string    { return b.name }
func (b broadcast) Message() []byte { return b.msg }
func (b broadcast) Finished()       {}

func (b broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(broadcast)
	return ok && o.name == b.name
}

// sentinel is a message that is too long for any packet. It keeps a queue from being empty. When the only message of a
// queue is replaced, memberlist 0.7 restarts its numbers below the number of the replacement. A later message of the
// same number and length would then overwrite the replacement.
var sentinel = broadcast{name: "sentinel, never sent", msg: make([]byte, packetSize+1)}

// maxQueued is the most messages of one kind that wait: one for each node of the largest imaginable cluster.
const maxQueued = 1024

// broadcastQueue is a bounded queue of messages. memberlist sends each message a few times, to random nodes.
type broadcastQueue struct {
	queue memberlist.TransmitLimitedQueue
	limit int
	// dropped receives the number of messages that a full queue lost.
	dropped func(n int)
}

func newBroadcastQueue(numNodes func() int, transmits int, dropped func(n int)) *broadcastQueue {
	q := &broadcastQueue{limit: maxQueued, dropped: dropped}
	q.queue.NumNodes, q.queue.RetransmitMult = numNodes, transmits
	q.queue.QueueBroadcast(sentinel)
	return q
}

// put queues a message in the place of an earlier message of that name. A full queue drops the messages that were sent
// most often.
func (q *broadcastQueue) put(name string, msg []byte) {
	q.queue.QueueBroadcast(broadcast{name: name, msg: msg})
	if excess := q.waiting() - q.limit; excess > 0 {
		q.queue.Prune(q.limit + 1) // one more for the sentinel, which Prune drops last
		q.dropped(excess)
	}
}

// waiting returns the number of messages that are not sent often enough yet.
func (q *broadcastQueue) waiting() int { return q.queue.NumQueued() - 1 }

// take returns messages that fit into limit bytes and into a packet. Each of them needs overhead bytes more than its
// length.
func (q *broadcastQueue) take(overhead, limit int) [][]byte {
	return q.queue.GetBroadcasts(overhead, min(limit, packetSize))
}
