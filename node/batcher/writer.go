package batcher

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

const (
	// spacing is the least time between the starts of two writes that carry few items. Without it, every punch of a
	// moderate load had a statement of its own until all writers were busy. It is a fiftieth of the bound of 250 ms that
	// a punch may take in a rush, and about as long as a commit.
	spacing = 5 * time.Millisecond
	// enoughItems start another write at once. The fixed cost of a statement or a call is then small for each of them.
	enoughItems = 32
)

// startWriter starts a writer if another write may be in flight. The lock is held.
func (b *Batcher) startWriter() {
	if b.writers < b.cfg.MaxWrites {
		b.began = time.Now()
		b.writers++
		b.wg.Go(b.writeLoop)
	}
}

// startSpaced starts a writer for items that have just come. While a write has just begun and few items wait, it starts
// the writer later: a writer that becomes free takes them, or further items join them. The lock is held.
func (b *Batcher) startSpaced() {
	wait := time.Until(b.began.Add(spacing))
	if b.writers > 0 && b.writers < b.cfg.MaxWrites && wait > 0 && b.queue.len() < min(enoughItems, b.cfg.MaxBatchItems) {
		b.startWriterIn(wait)
		return
	}
	b.startWriter()
}

// startWriterIn needs no owner: while an item waits there is a writer, and Close waits for the writers. The lock is held.
func (b *Batcher) startWriterIn(wait time.Duration) {
	if b.later {
		return
	}
	b.later = true
	if b.timer != nil {
		b.timer.Reset(wait)
		return
	}
	b.timer = time.AfterFunc(wait, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.later = false
		if b.queue.len() > 0 {
			b.startWriter()
		}
	})
}

// writeLoop writes batches until no item waits.
func (b *Batcher) writeLoop() {
	for {
		batch := b.next()
		if len(batch) == 0 {
			return
		}
		b.write(batch)
	}
}

// next takes the entries whose turn it is and whose callers still wait. When there is none, the writer ends under the
// same lock, so that a later entry starts another. When it leaves entries behind, it starts another writer for them.
func (b *Batcher) next() []*entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	var batch []*entry
	bytes := 0
	for len(batch) < b.cfg.MaxBatchItems && bytes < maxBatchBytes {
		e := b.queue.pop()
		if e == nil {
			break
		}
		// The caller has left without an answer and will retry. To write its item would only make the others wait.
		if err := e.item.Ctx.Err(); err != nil {
			e.complete(punch.Outcome{Err: notConfirmed(err)})
			continue
		}
		bytes += e.item.Size()
		batch = append(batch, e)
	}
	if b.queue.len() == 0 {
		b.waitingSince = time.Time{}
	}
	switch {
	case len(batch) == 0:
		b.writers--
	default:
		b.began = time.Now()
		if b.queue.len() > 0 {
			b.startWriter()
		}
	}
	return batch
}

// maxBatchBytes bounds one statement or call: a few hundred rows with long notes, well under what the database and the
// peers take in one message.
const maxBatchBytes = 1 << 20

func (b *Batcher) write(batch []*entry) {
	ctx, cancel := context.WithDeadline(b.running, latestDeadline(batch))
	defer cancel()
	contexts := make([]context.Context, len(batch))
	items := make([]punch.Item, len(batch))
	start := b.writeStarted()
	for i, e := range batch {
		e.wait.End()
		b.metrics.wait.Record(ctx, start.Sub(e.queuedAt).Seconds(), b.metrics.attrs)
		contexts[i] = e.item.Ctx
	}
	ctx, spans := tracing.StartBatch(ctx, b.tracer, b.cfg.Spans, contexts)
	for i, e := range batch {
		items[i] = punch.Item{Ctx: spans.Item(i), Punch: e.item.Punch}
	}
	outcomes := b.callWriter(ctx, items)
	succeeded := false
	for i, e := range batch {
		succeeded = succeeded || answered(outcomes[i].Err)
		spans.EndItem(i, outcomes[i].Err, tracing.HomeRegion.String(b.cfg.Home), tracing.Replayed.Bool(outcomes[i].Receipt.Replayed))
		e.complete(outcomes[i])
	}
	spans.End(nil)
	took := time.Since(start)
	b.metrics.write.Record(ctx, took.Seconds(), b.metrics.attrs)
	b.metrics.size.Record(ctx, int64(len(batch)), b.metrics.attrs)
	b.writeFinished(took, len(batch), succeeded)
}

// callWriter turns a panic of the writer into Unavailable for its batch. Otherwise the panic would end the process, with
// the punches of every other home in it. Devices would then send the punch that caused it to the next node, and the next.
func (b *Batcher) callWriter(ctx context.Context, items []punch.Item) (outcomes []punch.Outcome) {
	defer func() {
		if cause := recover(); cause != nil {
			b.log.ErrorContext(ctx, "panic while a batch was written; its punches are answered with 503", "home", b.cfg.Home, "kind", b.cfg.Kind,
				"punches", len(items), "panic", cause, "stack", string(debug.Stack()))
			outcomes = allUnconfirmed(items, fmt.Errorf("panic: %v", cause))
		}
	}()
	if outcomes = b.writer.Write(ctx, items); len(outcomes) != len(items) {
		panic(fmt.Sprintf("%d outcomes for %d items", len(outcomes), len(items)))
	}
	return outcomes
}

func allUnconfirmed(items []punch.Item, cause error) []punch.Outcome {
	outcomes := make([]punch.Outcome, len(items))
	for i := range outcomes {
		outcomes[i].Err = punch.Retryable(punch.Unavailable, time.Second,
			"the punch could not be confirmed; send it again with the same id", cause)
	}
	return outcomes
}

// answered reports whether the database has answered for an item, by a receipt or by a refusal. Unavailable and
// Overloaded are no answers of the database.
func answered(err error) bool {
	code := punch.CodeOf(err)
	return code != punch.Unavailable && code != punch.Overloaded
}

func (b *Batcher) writeStarted() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.breaker.writeStarted(now)
	return now
}

func (b *Batcher) writeFinished(took time.Duration, items int, succeeded bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.breaker.writeFinished(now, succeeded)
	if succeeded {
		b.pace.wrote(now, took, items)
	}
}

func (e *entry) complete(o punch.Outcome) {
	e.wait.End() // for an entry that was never written; a second End does nothing
	e.done <- o
}

// maxCallTime bounds a write whose callers have no deadline: the longest time-out that the node's configuration allows.
const maxCallTime = 2 * time.Minute

// latestDeadline bounds a write by the caller with the most time. The callers with less time have left by then.
func latestDeadline(batch []*entry) time.Time {
	latest := time.Time{}
	for _, e := range batch {
		deadline, ok := e.item.Ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(maxCallTime)
		}
		if deadline.After(latest) {
			latest = deadline
		}
	}
	return latest
}
