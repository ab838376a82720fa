package batcher

import (
	"context"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// flush writes batches until nothing waits. As many run at once as the lane
// may have writes in flight.
func (l *Lane) flush() {
	defer l.wg.Done()
	for {
		batch := l.next()
		if len(batch) == 0 {
			return
		}
		l.write(batch)
	}
}

// next takes the oldest entries that somebody still waits for. When there are
// none it signs the flusher off, under the same lock: an entry that comes
// later starts another.
func (l *Lane) next() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var batch []*entry
	bytes := 0
	for len(batch) < l.cfg.BatchItems && bytes < maxBatchBytes {
		e := l.queue.pop()
		if e == nil {
			break
		}
		// A caller that is gone was told nothing and will retry: writing
		// for it would only make the others wait.
		if err := e.item.Ctx.Err(); err != nil {
			e.settle(punch.Outcome{Err: tooLate(err)})
			continue
		}
		bytes += e.item.Size()
		batch = append(batch, e)
	}
	if len(batch) == 0 {
		l.flushers--
	}
	return batch
}

// maxBatchBytes bounds one statement or call: a few hundred rows with long
// notes, well under what database and peers take in one message.
const maxBatchBytes = 1 << 20

func (l *Lane) write(batch []*entry) {
	ctx, cancel := context.WithDeadline(l.running, latestDeadline(batch))
	defer cancel()
	contexts := make([]context.Context, len(batch))
	items := make([]punch.Item, len(batch))
	start := l.begin()
	for i, e := range batch {
		e.wait.End()
		l.metrics.wait.Record(ctx, start.Sub(e.queuedAt).Seconds(), l.metrics.attrs)
		contexts[i] = e.item.Ctx
	}
	ctx, spans := tracing.StartBatch(ctx, l.tracer, l.cfg.Work, contexts)
	for i, e := range batch {
		items[i] = punch.Item{Ctx: spans.Item(i), Punch: e.item.Punch}
	}
	outcomes := l.writer.Write(ctx, items)
	worked := false
	for i, e := range batch {
		worked = worked || settled(outcomes[i].Err)
		spans.EndItem(i, outcomes[i].Err, tracing.HomeRegion.String(l.cfg.Home), tracing.Replayed.Bool(outcomes[i].Receipt.Replayed))
		e.settle(outcomes[i])
	}
	spans.End(nil)
	took := time.Since(start)
	l.metrics.flush.Record(ctx, took.Seconds(), l.metrics.attrs)
	l.metrics.batch.Record(ctx, int64(len(batch)), l.metrics.attrs)
	l.end(took, worked)
}

// settled reports whether the database has answered for an item, by a receipt
// or a refusal; being full or away is no answer of it.
func settled(err error) bool {
	code := punch.CodeOf(err)
	return code != punch.Unavailable && code != punch.Overloaded
}

func (l *Lane) begin() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.circuit.began(now)
	return now
}

// end tells the circuit, and smooths the duration of writes, with a weight of
// 1/8 as TCP smooths round trips (RFC 6298). A write that failed is no measure
// of the pace, and one that outlasted a failover a poor one: none counts for
// more than four times the pace, so that many slow ones are learnt from, and
// those few that were in flight are not.
func (l *Lane) end(took time.Duration, worked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.circuit.ended(time.Now(), worked)
	if !worked {
		return
	}
	if l.pace == 0 {
		l.pace = took
	}
	l.pace += (min(took, max(4*l.pace, plainWrite)) - l.pace) / 8
}

// plainWrite always counts in full: a write between regions, in which nothing
// is amiss.
const plainWrite = 200 * time.Millisecond

func (e *entry) settle(o punch.Outcome) {
	e.wait.End() // again, where it was never written
	e.done <- o
}

// latestDeadline bounds a write by the caller with the most time: whoever has
// less has left by then.
func latestDeadline(batch []*entry) time.Time {
	// Callers without a deadline still need an end; it is the longest that
	// the node's configuration allows a punch.
	latest := time.Time{}
	for _, e := range batch {
		deadline, ok := e.item.Ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(2 * time.Minute)
		}
		if deadline.After(latest) {
			latest = deadline
		}
	}
	return latest
}
