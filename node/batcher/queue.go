package batcher

// queue is a FIFO of entries that reuses its memory. The batcher's lock guards it.
type queue struct {
	entries []*entry
	head    int
	bytes   int
}

func (q *queue) len() int { return len(q.entries) - q.head }

func (q *queue) push(e *entry) {
	q.entries = append(q.entries, e)
	q.bytes += e.item.Size()
}

// pop returns the oldest entry, nil when there is none.
func (q *queue) pop() *entry {
	if q.head == len(q.entries) {
		return nil
	}
	e := q.entries[q.head]
	q.entries[q.head] = nil // for the garbage collector
	q.head++
	q.bytes -= e.item.Size()
	switch {
	case q.head == len(q.entries):
		q.entries, q.head = q.entries[:0], 0
	case q.head >= 1024 && q.head*2 >= len(q.entries):
		// Half of the memory is spent: move the rest to the front. This costs less than one move an entry on average, and
		// memory stays within twice the need.
		n := copy(q.entries, q.entries[q.head:])
		clear(q.entries[n:])
		q.entries, q.head = q.entries[:n], 0
	}
	return e
}
