package batcher

// fifo is a first-in-first-out queue that reuses its memory.
type fifo[T any] struct {
	list []T
	head int
}

func (q *fifo[T]) len() int { return len(q.list) - q.head }

func (q *fifo[T]) push(v T) { q.list = append(q.list, v) }

// pop returns the oldest value. There must be one.
func (q *fifo[T]) pop() T {
	var none T
	v := q.list[q.head]
	q.list[q.head] = none // for the garbage collector
	q.head++
	switch {
	case q.head == len(q.list):
		q.list, q.head = q.list[:0], 0
	case q.head >= 1024 && q.head*2 >= len(q.list):
		// Half of the memory is spent: move the rest to the front. This costs less than one move a value on average, and
		// memory stays within twice the need.
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	return v
}

// popNewest returns the newest value. There must be one.
func (q *fifo[T]) popNewest() T {
	var none T
	last := len(q.list) - 1
	v := q.list[last]
	q.list[last] = none
	q.list = q.list[:last]
	return v
}

// line is the entries of one company that wait.
type line struct {
	entries fifo[*entry]
	bytes   int
}

// lines is fair queueing (Nagle, RFC 970): each company has a line, and the lines take turns. A company that sends much
// thus waits behind itself only. There are no more lines than entries, so the bound of the queue bounds them.
type lines struct {
	byCompany map[string]*line
	turns     fifo[*line] // of all lines, the next one first
	spare     *line       // for the next company: a quiet home has one line after the other
	items     int
}

func (ls *lines) push(e *entry) {
	l := ls.byCompany[e.item.Company]
	if l == nil {
		if l, ls.spare = ls.spare, nil; l == nil {
			l = new(line)
		}
		if ls.byCompany == nil {
			ls.byCompany = make(map[string]*line)
		}
		ls.byCompany[e.item.Company] = l
		ls.turns.push(l)
	}
	l.entries.push(e)
	l.bytes += e.item.Size()
	ls.items++
}

// pop returns the oldest entry of the line whose turn it is. There must be one.
func (ls *lines) pop() *entry {
	l := ls.turns.pop()
	e := l.entries.pop()
	l.bytes -= e.item.Size()
	ls.items--
	if l.entries.len() > 0 {
		ls.turns.push(l)
	} else {
		delete(ls.byCompany, e.item.Company)
		ls.spare = l
	}
	return e
}

// of returns how many entries of a company wait.
func (ls *lines) of(company string) int {
	if l := ls.byCompany[company]; l != nil {
		return l.entries.len()
	}
	return 0
}

// before estimates how many entries go before a new one of the company: one of each line for each of its own.
func (ls *lines) before(company string) int {
	return min(ls.items, (ls.of(company)+1)*ls.turns.len())
}

// queue is what waits for a home: the punches of people, and those of outboxes. The batcher's lock guards it.
type queue struct {
	people, outboxes lines
	bytes            int
	credit           float64 // of outboxes, in entries
}

// outboxShare is the part of a batch that outboxes get while people wait: the same as at the gate, see package admission.
// Without it an outbox would never empty during a long rush.
const outboxShare = 0.1

func (q *queue) len() int { return q.people.items + q.outboxes.items }

func (q *queue) lines(e *entry) *lines {
	if e.outbox {
		return &q.outboxes
	}
	return &q.people
}

func (q *queue) push(e *entry) {
	q.lines(e).push(e)
	q.bytes += e.item.Size()
}

// pop returns the next entry, nil when there is none. People go first.
func (q *queue) pop() *entry {
	from := &q.people
	switch {
	case q.len() == 0:
		return nil
	case q.people.items == 0:
		from = &q.outboxes
	case q.outboxes.items > 0:
		if q.credit += outboxShare; q.credit >= 1 {
			q.credit--
			from = &q.outboxes
		}
	}
	e := from.pop()
	q.bytes -= e.item.Size()
	return e
}

// before estimates how many entries go before a new one.
func (q *queue) before(e *entry) int {
	ahead := q.lines(e).before(e.item.Company)
	if e.outbox {
		return ahead + min(q.people.items, int(float64(ahead)/outboxShare))
	}
	return ahead + min(q.outboxes.items, int(float64(ahead)*outboxShare))
}

// makeRoom takes the newest entry of the longest line out of the queue, so that e may enter (push-out of the longest
// queue, McKenney 1990). It returns nil when e itself would be in the longest line. People push out outboxes first.
func (q *queue) makeRoom(e *entry) *entry {
	own := q.lines(e)
	for _, ls := range []*lines{&q.outboxes, own} {
		longest := ls.longest()
		if longest == nil || longest.entries.len() < 2 { // a line keeps its turn, so it is never emptied here
			continue
		}
		if ls == own && longest.entries.len() <= own.of(e.item.Company)+1 {
			continue
		}
		out := longest.entries.popNewest()
		longest.bytes -= out.item.Size()
		ls.items--
		q.bytes -= out.item.Size()
		return out
	}
	return nil
}

// longest returns the line that holds most memory, nil when there is none.
func (ls *lines) longest() (longest *line) {
	for _, l := range ls.byCompany {
		if longest == nil || l.bytes > longest.bytes {
			longest = l
		}
	}
	return longest
}
