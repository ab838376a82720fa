package batcher

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
)

func entryOf(company string, outbox bool) *entry {
	p := aPunch("x")
	p.Company = company
	return &entry{item: punch.Item{Punch: p}, outbox: outbox, done: make(chan punch.Outcome, 1)}
}

// TestQueueKeepsOrderAndCount holds that every entry comes out once, and those of a company and class in their order.
func TestQueueKeepsOrderAndCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type of struct {
			company string
			outbox  bool
		}
		var q queue
		model, total, bytes := make(map[of][]*entry), 0, 0
		drop := func(e *entry, newest bool) {
			key := of{e.item.Company, e.outbox}
			waiting := model[key]
			place := 0
			if newest {
				place = len(waiting) - 1
			}
			if len(waiting) == 0 || waiting[place] != e {
				t.Fatal("out of order")
			}
			model[key] = slices.Delete(waiting, place, place+1)
			total, bytes = total-1, bytes-e.item.Size()
		}
		for range rapid.IntRange(1, 3000).Draw(t, "steps") {
			e := entryOf(fmt.Sprint("c", rapid.IntRange(0, 5).Draw(t, "company")), rapid.Bool().Draw(t, "outbox"))
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1, 2:
				q.push(e)
				key := of{e.item.Company, e.outbox}
				model[key], total, bytes = append(model[key], e), total+1, bytes+e.item.Size()
			case 3:
				if got := q.pop(); got != nil {
					drop(got, false)
				} else if total > 0 {
					t.Fatalf("%d entries wait, and none comes", total)
				}
			default:
				if got := q.makeRoom(e); got != nil {
					drop(got, true)
				}
			}
			if q.len() != total || q.bytes != bytes {
				t.Fatalf("length %d and %d bytes, want %d and %d", q.len(), q.bytes, total, bytes)
			}
		}
		for total > 0 {
			drop(q.pop(), false)
		}
		if q.len() != 0 || q.bytes != 0 || len(q.people.byCompany)+len(q.outboxes.byCompany) != 0 {
			t.Fatalf("an empty queue of length %d with %d bytes", q.len(), q.bytes)
		}
	})
}

// slowWriter writes a number of items a second, whatever the size of a batch: a database that is limited by rows.
func slowWriter(rate int) writerFunc {
	return func(ctx context.Context, items []punch.Item) []punch.Outcome {
		time.Sleep(time.Duration(len(items)) * time.Second / time.Duration(rate))
		return record(ctx, items)
	}
}

// crowd is callers that arrive at a steady rate. It counts what became of them.
type crowd struct {
	callers sync.WaitGroup

	mu                      sync.Mutex // guards the fields below
	recorded, refused, left int
	slowest, slowestRefusal time.Duration
}

const patience = 2 * time.Second

func (c *crowd) arrive(t *testing.T, b *Batcher, company string, rate int, length time.Duration, outbox bool) {
	c.callers.Go(func() {
		for i := range int(length.Seconds() * float64(rate)) {
			c.callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if outbox {
					ctx = punch.WithOutbox(ctx)
				}
				p := aPunch(fmt.Sprint(i))
				p.Company = company
				start := time.Now()
				_, err := b.Record(ctx, p)
				took := time.Since(start)
				c.mu.Lock()
				defer c.mu.Unlock()
				switch {
				case err == nil:
					c.recorded++
					c.slowest = max(c.slowest, took)
				case punch.CodeOf(err) == punch.Overloaded:
					c.refused++
					c.slowestRefusal = max(c.slowestRefusal, took)
				default:
					c.left++
				}
			})
			time.Sleep(time.Second / time.Duration(rate))
		}
	})
}

// TestASlowDatabaseRefusesAtOnce offers three times what the writers can write. Callers that would leave are refused when
// they come, and the writers stay busy.
func TestASlowDatabaseRefusesAtOnce(t *testing.T) {
	for _, kind := range []string{"limited by rows", "limited by writes"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				writer := slowWriter(500) // with two writers 1,000/s
				if kind == "limited by writes" {
					writer = func(ctx context.Context, items []punch.Item) []punch.Outcome {
						time.Sleep(100 * time.Millisecond) // two batches of at most 50: 1,000/s
						return record(ctx, items)
					}
				}
				b := mustBatcher(t, Config{MaxItems: 100_000, MaxBytes: 1 << 30, MaxBatchItems: 50, MaxWait: 500 * time.Millisecond}, writer)
				var c crowd
				c.arrive(t, b, "acme", 3000, 5*time.Second, false)
				c.callers.Wait()
				t.Logf("%d recorded, the slowest after %s; %d refused, the slowest after %s; %d left", c.recorded,
					c.slowest, c.refused, c.slowestRefusal, c.left)
				if c.recorded < 4750 {
					t.Errorf("%d of 5,000 possible punches were recorded", c.recorded)
				}
				if c.left > 0 || c.slowest > time.Second {
					t.Errorf("%d callers left, the slowest answer took %s", c.left, c.slowest)
				}
				if c.slowestRefusal > 0 {
					t.Errorf("a refusal took %s, want none", c.slowestRefusal)
				}
				mustClose(t, b)
			})
		})
	}
}

// TestAHandOverRefusesNobody lets no write succeed for three seconds, as while the database elects another leaseholder.
func TestAHandOverRefusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		back := make(chan struct{})
		b := mustBatcher(t, Config{MaxItems: 100_000, MaxBytes: 1 << 30, MaxWait: 500 * time.Millisecond},
			writerFunc(func(ctx context.Context, items []punch.Item) []punch.Outcome {
				if away.Load() {
					<-back
				}
				time.Sleep(5 * time.Millisecond)
				return record(ctx, items)
			}))
		var callers sync.WaitGroup
		for i := range 4000 {
			if i == 500 {
				away.Store(true)
			}
			if i == 3500 {
				away.Store(false)
				close(back)
			}
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				if _, err := b.Record(ctx, aPunch(fmt.Sprint(i))); err != nil && i < 3500 {
					t.Errorf("punch %d: %v", i, err)
				}
			})
			time.Sleep(time.Millisecond)
		}
		callers.Wait()
		mustClose(t, b)
	})
}

// TestOneCompanyDoesNotStarveOthersOfItsHome lets one company send four times what the database takes.
func TestOneCompanyDoesNotStarveOthersOfItsHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBatcher(t, Config{MaxItems: 2000, MaxBytes: 1 << 30, MaxBatchItems: 50, MaxWait: 500 * time.Millisecond},
			slowWriter(500))
		var flood, others crowd
		flood.arrive(t, b, "flood", 4000, 5*time.Second, false)
		for i := range 10 {
			others.arrive(t, b, fmt.Sprint("shop-", i), 40, 5*time.Second, false)
		}
		flood.callers.Wait()
		others.callers.Wait()
		t.Logf("others: %d recorded, the slowest after %s; the flood: %d", others.recorded, others.slowest,
			flood.recorded)
		if n := others.recorded; n != 2000 {
			t.Errorf("%d of the 2,000 punches of other companies were recorded", n)
		}
		if slowest := others.slowest; slowest > 300*time.Millisecond {
			t.Errorf("a punch of another company took %s", slowest)
		}
		if n := flood.recorded; n < 2600 {
			t.Errorf("the flooding company got %d of the 3,000 that nobody else needs", n)
		}
		mustClose(t, b)
	})
}

// TestAFullQueueTakesTheShortLine fills the room with one company's punches. Another company's punch pushes out the newest
// of them, and a person's punch one of an outbox.
func TestAFullQueueTakesTheShortLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := mustBatcher(t, Config{MaxItems: 4, MaxWrites: 1, MaxBatchItems: 1}, writerFunc(
			func(ctx context.Context, items []punch.Item) []punch.Outcome {
				<-release
				return record(ctx, items)
			}))
		var callers sync.WaitGroup
		var mu sync.Mutex
		var refused []string
		send := func(company, employee string, ctx context.Context) {
			callers.Go(func() {
				p := aPunch(employee)
				p.Company = company
				if _, err := b.Record(ctx, p); punch.CodeOf(err) == punch.Overloaded {
					mu.Lock()
					defer mu.Unlock()
					refused = append(refused, employee)
				}
			})
			synctest.Wait()
		}
		stored := punch.WithOutbox(t.Context())
		send("acme", "in flight", t.Context())
		send("acme", "first", t.Context())
		send("acme", "second", t.Context())
		send("acme", "stored", stored)
		send("acme", "stored later", stored)
		send("shop", "a shop", t.Context())    // pushes out an outbox
		send("acme", "third", t.Context())     // is the longest line itself
		send("corner", "corner", t.Context())  // pushes out the newest of the longest line
		send("shop", "stored of shop", stored) // finds no longer line of outboxes
		close(release)
		callers.Wait()
		if got, want := fmt.Sprint(refused), "[stored later third second stored of shop]"; got != want {
			t.Errorf("refused: %s, want %s", got, want)
		}
		mustClose(t, b)
	})
}

// TestOutboxesWaitForPeopleAndDoNotStarve offers twice as much of both classes as the database takes.
func TestOutboxesWaitForPeopleAndDoNotStarve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustBatcher(t, Config{MaxItems: 2000, MaxBytes: 1 << 30, MaxBatchItems: 50, MaxWait: 500 * time.Millisecond},
			slowWriter(500))
		var people, outboxes crowd
		outboxes.arrive(t, b, "acme", 2000, 5*time.Second, true)
		people.arrive(t, b, "acme", 800, 5*time.Second, false)
		people.callers.Wait()
		outboxes.callers.Wait()
		t.Logf("people: %d, the slowest after %s; outboxes: %d", people.recorded, people.slowest, outboxes.recorded)
		if n := people.recorded; n < 3900 {
			t.Errorf("%d of the 4,000 punches of people were recorded", n)
		}
		if n := outboxes.recorded; n < 400 {
			t.Errorf("%d punches of outboxes were recorded: they starve", n)
		}
		mustClose(t, b)
	})
}
