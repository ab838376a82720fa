package load

import "time"

// scheduled is a press to come.
type scheduled struct {
	at     time.Time
	call   *call
	region int
}

// agenda is a heap, the earliest press first.
type agenda []scheduled

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(scheduled)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// queue is the attempts under way, the oldest first. All callers have the same patience, so the oldest gives up first.
type queue struct {
	list []*attempt
	head int
}

func (q *queue) push(a *attempt) { q.list = append(q.list, a) }

// oldest returns the oldest attempt that is not over, or nil. It drops the attempts before.
func (q *queue) oldest() *attempt {
	for ; q.head < len(q.list); q.head++ {
		if a := q.list[q.head]; !a.over.Load() {
			return a
		}
		q.list[q.head] = nil
	}
	q.list, q.head = q.list[:0], 0
	return nil
}
