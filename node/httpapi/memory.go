package httpapi

import (
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

const (
	// maxHeld bounds the memory of admitted requests without an answer. While the database stands still, they wait for
	// as long as a punch may take. Without this bound a node with 240 large batches grew to 2.1 GiB.
	maxHeld = 512 << 20
	// maxHeldByBatches leaves the other half to people who wait. No person waits for a batch.
	maxHeldByBatches = maxHeld / 2
	// heldByPunch is what a waiting punch takes: its goroutine's stack, its place in the queue and the garbage that the
	// collector leaves. 61,440 of them took 2 GiB. maxHeld is therefore 16,384 single punches, one full queue.
	heldByPunch = 32 << 10
	// heldByByte is for a byte of a batch's body: the buffer may be twice as large, and the decoded punches and the
	// answer take as much again.
	heldByByte = 4
	// leastItem is the size in bytes of the shortest valid punch in a batch. Many short punches take more than few long
	// ones, and their number is not known before the body is read.
	leastItem = 75
)

// memory counts what admitted punches hold until they are answered. It is safe for concurrent use.
type memory struct{ held atomic.Int64 }

// hold reserves n bytes unless more than limit bytes would be reserved then. A granted hold must be released.
func (m *memory) hold(n, limit int64) error {
	if m.held.Add(n) > limit {
		m.held.Add(-n)
		return punch.Retryable(punch.Overloaded, time.Second, "this node holds as many requests as it has memory for; come again after Retry-After", nil)
	}
	return nil
}

func (m *memory) release(n int64) { m.held.Add(-n) }

// batchMemory returns what a batch can take at most. length is -1 when the caller did not announce it.
func batchMemory(length, maxBody int64) int64 {
	if length < 0 || length > maxBody {
		length = maxBody
	}
	return length*heldByByte + min(length/leastItem+1, batchWorkers)*heldByPunch
}
