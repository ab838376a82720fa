package crdb

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

func TestWriteAndReplay(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("eu-west")
		item := s.item(company, "eu-west", "anna")
		item.At, item.Source, item.Note = time.Now().Add(-time.Minute), "gate-1", "späte Ünïcode ✓"
		w := s.Writer("eu-west")
		first := w.Write(s.ctx, []punch.Item{item})[0]
		wantCode(t, first, "")
		if first.Receipt.Replayed || first.Receipt.HomeRegion != "eu-west" || first.Receipt.RecordedAt.IsZero() {
			t.Fatalf("the first receipt is %+v", first.Receipt)
		}
		retry := item
		retry.Stamp = punch.Stamp{ReceivedAt: item.ReceivedAt.Add(time.Second), EntryRegion: "ap-south", TraceID: "other"}
		second := w.Write(s.ctx, []punch.Item{retry})[0]
		wantCode(t, second, "")
		want := first.Receipt
		want.Replayed = true
		if second.Receipt != want {
			t.Fatalf("the replay's receipt is\n%+v, want\n%+v", second.Receipt, want)
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1 AND crdb_region = 'eu-west'`, company); n != 1 {
			t.Fatalf("%d rows in eu-west, want 1", n)
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != 1 {
			t.Fatalf("%d rows in all regions, want 1", n)
		}
	})
}

func TestOwnInsertIsNoReplay(t *testing.T) {
	// The answer to the statement was lost, and the repetition finds the row.
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		item := s.item(company, "us-east", "anna")
		w := s.Writer("us-east")
		w.Write(s.ctx, []punch.Item{item})
		again := w.Write(s.ctx, []punch.Item{item})[0]
		wantCode(t, again, "")
		if again.Receipt.Replayed {
			t.Fatal("the row carries this request's own stamp, and counts as a replay")
		}
	})
}

func TestConflict(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		item := s.item(company, "us-east", "anna")
		for name, change := range map[string]func(*punch.Item){
			"kind": func(i *punch.Item) { i.Kind = punch.Out },
			"at":   func(i *punch.Item) { i.At = time.Now() },
		} {
			wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{item})[0], "")
			other := item
			change(&other)
			if o := s.Writer("us-east").Write(s.ctx, []punch.Item{other})[0]; punch.CodeOf(o.Err) != punch.Conflict {
				t.Errorf("same id, other %s: %v, want a conflict", name, o)
			}
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != 1 {
			t.Fatalf("%d rows, want 1", n)
		}
	})
}

// TestTheSameEventFromAnotherSource checks that only kind and instant make two punches different. A renamed terminal
// that sends again gets the stored receipt. That also holds when a build with another fingerprint wrote the row.
func TestTheSameEventFromAnotherSource(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		item := s.item(company, "us-east", "anna")
		first := s.Writer("us-east").Write(s.ctx, []punch.Item{item})[0]
		wantCode(t, first, "")
		resend := func(name string, change func(*punch.Item)) {
			again := item
			again.TraceID = "another request"
			change(&again)
			got := s.Writer("us-east").Write(s.ctx, []punch.Item{again})[0]
			want := first.Receipt
			want.Replayed = true
			if got.Err != nil || got.Receipt != want {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
		}
		resend("the same content", func(*punch.Item) {})
		resend("another source", func(i *punch.Item) { i.Source = "gate-2" })
		resend("another note", func(i *punch.Item) { i.Note = "x" })
		resend("the same instant, explicit", func(i *punch.Item) { i.At = i.ID.Time() })
		s.exec(`UPDATE punches SET fingerprint = '\x000102030405060708090a0b0c0d0e0f' WHERE company_id = $1`, company)
		resend("a row with the fingerprint of another build", func(*punch.Item) {})
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != 1 {
			t.Fatalf("%d rows, want 1", n)
		}
	})
}

func TestOneKeyTwiceInABatch(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		item := s.item(company, "us-east", "anna")
		twin, other, stranger := item, item, s.item(company, "us-east", "ben")
		twin.TraceID, other.Kind = "another request", punch.Out
		stranger.ID = item.ID // ids are unique per employee only
		out := s.Writer("us-east").Write(s.ctx, []punch.Item{item, twin, other, stranger, item})
		for i, want := range []punch.Code{"", "", punch.Conflict, "", ""} {
			wantCode(t, out[i], want)
		}
		fresh := 0
		for _, i := range []int{0, 1, 4} {
			if !out[i].Receipt.Replayed {
				fresh++
			}
			if !out[i].Receipt.RecordedAt.Equal(out[0].Receipt.RecordedAt) {
				t.Errorf("receipt %d was recorded at another time", i)
			}
		}
		if fresh != 1 {
			t.Errorf("%d of three callers recorded the punch, want 1", fresh)
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != 2 {
			t.Fatalf("%d rows, want 2", n)
		}
	})
}

func TestConcurrentWritersOneRow(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("ap-south")
		base := make([]punch.Item, 20)
		for i := range base {
			base[i] = s.item(company, "ap-south", fmt.Sprintf("e%d", i))
		}
		const writers = 6
		outcomes := make([][]punch.Outcome, writers)
		var wg sync.WaitGroup
		for n := range writers {
			wg.Go(func() {
				batch := make([]punch.Item, len(base))
				for i := range base { // every other writer in opposite order, which deadlocks without sorting
					j := i
					if n%2 == 1 {
						j = len(base) - 1 - i
					}
					batch[i] = base[j]
					batch[i].TraceID = fmt.Sprint(n)
				}
				outcomes[n] = s.Writer("ap-south").Write(s.ctx, batch)
			})
		}
		wg.Wait()
		recorded := make(map[string]int)
		at := make(map[string]time.Time)
		for _, out := range outcomes {
			for _, o := range out {
				wantCode(t, o, "")
				e := o.Receipt.Employee
				if !o.Receipt.Replayed {
					recorded[e]++
				}
				if old, ok := at[e]; ok && !old.Equal(o.Receipt.RecordedAt) {
					t.Errorf("%s has receipts of %s and %s", e, old, o.Receipt.RecordedAt)
				}
				at[e] = o.Receipt.RecordedAt
			}
		}
		for e, n := range recorded {
			if n != 1 {
				t.Errorf("%s was recorded %d times", e, n)
			}
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != len(base) {
			t.Fatalf("%d rows, want %d", n, len(base))
		}
	})
}

func TestFence(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		old := s.item(company, "us-east", "anna")
		s.exec(`UPDATE homes SET epoch = 2 WHERE crdb_region = 'us-east' AND company_id = $1`, company)
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{old})[0], punch.NotHome)
		elsewhere := s.item(company, "eu-west", "anna")
		wantCode(t, s.Writer("eu-west").Write(s.ctx, []punch.Item{elsewhere})[0], punch.NotHome)
		unknown := s.item("c-unknown", "us-east", "anna")
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{unknown})[0], punch.UnknownCompany)
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id IN ($1, 'c-unknown')`, company); n != 0 {
			t.Fatalf("%d rows, want none", n)
		}
		// A punch recorded under the old epoch is a replay, not a refusal.
		now := old
		now.Epoch = 2
		wantCode(t, s.Writer("us-east").Write(s.ctx, []punch.Item{now})[0], "")
		replay := s.Writer("us-east").Write(s.ctx, []punch.Item{old})[0]
		wantCode(t, replay, "")
	})
}

// TestFenceHoldsAStalledWriter starts a batch while the company's home changes. It must wait for the change and then
// insert nothing. Without the lock on the fence's row PostgreSQL would insert the batch.
func TestFenceHoldsAStalledWriter(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		item := s.item(company, "us-east", "anna")
		tx, err := s.admin.Begin(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(s.ctx, `UPDATE homes SET epoch = 2 WHERE crdb_region = 'us-east' AND company_id = $1`, company); err != nil {
			t.Fatal(err)
		}
		result := make(chan punch.Outcome, 1)
		go func() { result <- s.Writer("us-east").Write(s.ctx, []punch.Item{item})[0] }()
		select {
		case o := <-result:
			t.Fatalf("the writer did not wait for the flip: %+v", o)
		case <-time.After(300 * time.Millisecond): // long compared with a write of a few ms
		}
		if err := tx.Commit(s.ctx); err != nil {
			t.Fatal(err)
		}
		wantCode(t, <-result, punch.NotHome)
	})
}

func TestPoisonFailsAlone(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		const total, every = 4_000, 797
		poisoned, good := 0, 0
		for from := 0; from < total; from += 500 {
			batch := make([]punch.Item, 500)
			for i := range batch {
				batch[i] = s.item(company, "us-east", fmt.Sprintf("e%d", from+i))
				if (from+i)%every == 7 {
					batch[i].Note = strings.Repeat("x", punch.MaxNote+1) // only the database's own check can refuse it
				}
			}
			for i, o := range s.Writer("us-east").Write(s.ctx, batch) {
				want := punch.Code("")
				if (from+i)%every == 7 {
					want = punch.Unavailable // a rule of the schema is no proof of the caller's fault
					poisoned++
				} else {
					good++
				}
				wantCode(t, o, want)
			}
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != good || poisoned == 0 {
			t.Fatalf("%d rows of %d good punches, %d poisoned", n, good, poisoned)
		}
	})
}

// TestValuesThatCannotBeStoredAreFinal sends the only kind of value that passes validation and that a database refuses.
// PostgreSQL refuses NUL, and CockroachDB stores it.
func TestValuesThatCannotBeStoredAreFinal(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		batch := []punch.Item{s.item(company, "us-east", "good"), s.item(company, "us-east", "bad"), s.item(company, "us-east", "also-good")}
		batch[1].Note = "a\x00b"
		outcomes := s.Writer("us-east").Write(s.ctx, batch)
		wantCode(t, outcomes[0], "")
		wantCode(t, outcomes[2], "")
		if s.Engine == PostgreSQL {
			wantCode(t, outcomes[1], punch.Invalid)
		}
	})
}

func TestWriteGivesUpAtItsDeadline(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		tx, err := s.admin.Begin(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(s.ctx) //nolint:errcheck // it only holds a lock
		if _, err := tx.Exec(s.ctx, `UPDATE homes SET epoch = epoch WHERE crdb_region = 'us-east' AND company_id = $1`, company); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(s.ctx, 500*time.Millisecond)
		defer cancel()
		o := s.Writer("us-east").Write(ctx, []punch.Item{s.item(company, "us-east", "anna")})[0]
		wantCode(t, o, punch.Unavailable)
		if punch.AsError(o.Err).Code.Final() {
			t.Fatal("an unknown outcome must not be final")
		}
	})
}
