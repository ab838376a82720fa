// Package batcher is group commit. Callers wait in a bounded queue, a free writer writes all waiting items together, and
// each caller gets the outcome of its own item. The package does not know what a write does: it may be a statement in
// the database, or a call to a node of another region. DESIGN.md says how it works and why.
package batcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// Writer writes a batch and returns one outcome per item, in order. It returns by the context's deadline. Items of one
// batch may carry the same key.
type Writer interface {
	Write(ctx context.Context, items []punch.Item) []punch.Outcome
}

// Config bounds a batcher. Every field is required.
type Config struct {
	Home          string // home region of the punches; a metric label
	Kind          string // what a write does, such as "database"; a metric label
	MaxItems      int    // most items that wait
	MaxBytes      int    // most memory that waiting items hold, by punch.Size
	MaxBatchItems int    // most items in one write
	MaxWrites     int    // most writes in flight, and so the connections that they use
	// MaxWait is how long an item may have to wait for its write while writes succeed. An item that would wait longer is
	// refused at once. 0 is no bound.
	MaxWait time.Duration
	// Spans names the spans of a write: one of the batch and one of each item.
	Spans tracing.BatchSpec
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	if c.Home == "" {
		return errors.New("batcher: Home is empty")
	}
	if c.Kind == "" {
		return errors.New("batcher: Kind is empty")
	}
	if c.MaxWait < 0 {
		return fmt.Errorf("batcher: MaxWait must not be negative, is %s", c.MaxWait)
	}
	for _, bound := range []struct {
		field string
		value int
	}{{"MaxItems", c.MaxItems}, {"MaxBytes", c.MaxBytes}, {"MaxBatchItems", c.MaxBatchItems}, {"MaxWrites", c.MaxWrites}} {
		if bound.value <= 0 {
			return fmt.Errorf("batcher: %s must be more than 0, is %d", bound.field, bound.value)
		}
	}
	return nil
}

// Deps is what a batcher writes to and reports to.
type Deps struct {
	Writer Writer
	Log    *slog.Logger
	Meter  metric.MeterProvider
	Tracer trace.TracerProvider
}

// Batcher is a queue with its writers. It is safe for concurrent use.
type Batcher struct {
	cfg     Config
	writer  Writer
	log     *slog.Logger
	tracer  trace.Tracer
	metrics *instruments

	// stop ends the writes that are still in flight when Close gives up.
	stop    context.CancelFunc
	running context.Context //nolint:containedctx // the lifetime of the writers
	wg      sync.WaitGroup  // the writers

	mu           sync.Mutex // guards the fields below
	queue        queue
	writers      int
	began        time.Time   // when the latest write began
	timer        *time.Timer // starts a writer later; nil before its first use
	later        bool        // the timer runs
	pace         pace
	waitingSince time.Time // when the queue was empty for the last time; zero while it is
	breaker      breaker
	closed       bool
}

// New makes a batcher. Close must be called.
func New(cfg Config, deps Deps) (*Batcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Batcher{
		cfg: cfg, writer: deps.Writer, log: deps.Log, tracer: deps.Tracer.Tracer("punchclock/batcher"), running: ctx, stop: cancel,
	}
	var err error
	if b.metrics, err = newInstruments(deps.Meter, cfg, b); err != nil {
		cancel()
		return nil, err
	}
	return b, nil
}

// entry is an item that waits or is being written.
type entry struct {
	item     punch.Item
	queuedAt time.Time
	wait     trace.Span
	outbox   bool               // no person waits for the answer
	done     chan punch.Outcome // has room for the one outcome
}

// Record waits for the outcome of p. When ctx ends first, p may or may not be committed.
func (b *Batcher) Record(ctx context.Context, p punch.Punch) (punch.Receipt, error) {
	e := b.newEntry(punch.Item{Ctx: ctx, Punch: p})
	entries, outcomes := [1]*entry{e}, [1]punch.Outcome{} // of one punch, so that they need no memory of the heap
	b.enqueue(entries[:], outcomes[:])
	b.await(e, &outcomes[0])
	return outcomes[0].Receipt, outcomes[0].Err
}

// RecordBatch records items that arrived together, each under its own context, and returns their outcomes in order.
func (b *Batcher) RecordBatch(items []punch.Item) []punch.Outcome {
	outcomes := make([]punch.Outcome, len(items))
	entries := make([]*entry, len(items))
	for i := range items {
		entries[i] = b.newEntry(items[i])
	}
	b.enqueue(entries, outcomes)
	for i, e := range entries {
		b.await(e, &outcomes[i])
	}
	return outcomes
}

// await waits for the outcome of an entry, unless the queue has refused it.
func (b *Batcher) await(e *entry, outcome *punch.Outcome) {
	if err := outcome.Err; err != nil {
		tracing.End(e.wait, err)
		b.metrics.reject(e.item.Ctx, err)
		return
	}
	select {
	case *outcome = <-e.done:
	case <-e.item.Ctx.Done():
		outcome.Err = notConfirmed(context.Cause(e.item.Ctx))
	}
}

func (b *Batcher) newEntry(item punch.Item) *entry {
	e := &entry{item: item, queuedAt: time.Now(), outbox: punch.FromOutbox(item.Ctx), done: make(chan punch.Outcome, 1)}
	_, e.wait = tracing.StartItem(item.Ctx, b.tracer, "queue.wait", trace.SpanKindInternal)
	return e
}

// enqueue admits all entries before the first writer looks: a batch that a node forwarded is then one write. A refused
// entry gets its error in outcomes.
func (b *Batcher) enqueue(entries []*entry, outcomes []punch.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range entries {
		if outcomes[i].Err = b.admit(e); outcomes[i].Err != nil {
			continue
		}
		if e.wait.IsRecording() {
			e.wait.SetAttributes(tracing.HomeRegion.String(b.cfg.Home), tracing.QueueDepth.Int(b.queue.len()))
		}
		if b.queue.len() == 0 {
			b.waitingSince = e.queuedAt
		}
		b.queue.push(e)
	}
	if b.queue.len() > 0 {
		b.startSpaced()
	}
}

func notConfirmed(cause error) error {
	return punch.Retryable(punch.Unavailable, time.Second, "the punch was not confirmed in time; send it again with the same id", cause)
}

// longestWait bounds the Retry-After of a full queue. The wait is an estimate, and a caller that stays away for long
// does not see that the queue has emptied.
const longestWait = 2 * time.Second

// admit refuses at once an item for which the queue has no room, or that would wait too long. A queue with room and no
// batch ahead always accepts. Otherwise an estimate from bad times could keep work out for ever.
func (b *Batcher) admit(e *entry) error {
	if err := e.item.Ctx.Err(); err != nil {
		return notConfirmed(err)
	}
	if b.closed {
		return punch.Retryable(punch.Unavailable, time.Second, "this node is shutting down; use another one", nil)
	}
	if !b.breaker.admits(time.Now()) {
		return punch.Retryable(punch.Unavailable, retryAfter,
			"the company's home region does not answer; send the punch again with the same id", nil)
	}
	if err := b.tooLong(e); err != nil {
		return err
	}
	for b.queue.len() >= b.cfg.MaxItems || b.queue.bytes+e.item.Size() > b.cfg.MaxBytes {
		out := b.queue.makeRoom(e)
		if out == nil {
			return noRoom()
		}
		b.metrics.reject(out.item.Ctx, noRoom())
		out.complete(punch.Outcome{Err: noRoom()})
	}
	return nil
}

func noRoom() error {
	return punch.Retryable(punch.Overloaded, time.Second, "too many punches of this home region are waiting here", nil)
}

// tooLong refuses an item whose write would come too late.
func (b *Batcher) tooLong(e *entry) error {
	before := b.queue.before(e)
	if rounds := before / (b.cfg.MaxBatchItems * b.cfg.MaxWrites); rounds > 0 {
		wait := b.pace.write * time.Duration(rounds+1)
		if deadline, ok := e.item.Ctx.Deadline(); ok && time.Until(deadline) < wait {
			return tooMany(wait)
		}
	}
	if b.cfg.MaxWait == 0 || b.queue.len() == 0 || e.queuedAt.Sub(b.waitingSince) < standing || !b.pace.fresh(e.queuedAt) {
		return nil
	}
	if wait := b.pace.wait(before, b.cfg.MaxWrites); wait > b.cfg.MaxWait {
		return tooMany(wait)
	}
	return nil
}

// standing is how long the queue must not have been empty before its length counts. A burst is over in less, and the
// writes within this time show what a full batch takes.
const standing = 100 * time.Millisecond

func tooMany(wait time.Duration) error {
	return punch.Retryable(punch.Overloaded, min(wait, longestWait),
		"too many punches of this home region wait here to record this one in time", nil)
}

func (b *Batcher) waiting() (items, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.len(), b.queue.bytes
}

// Waiting returns how many items wait.
func (b *Batcher) Waiting() int {
	items, _ := b.waiting()
	return items
}

// Open reports whether the circuit breaker is open: no write has succeeded for a while, and only probes are let in.
func (b *Batcher) Open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.breaker.open(time.Now())
}

// Close refuses new items, writes the waiting ones and returns when every caller has its outcome. When ctx ends first,
// Close cancels the writes in flight, tells their callers to retry and returns ctx's error. It may be called again.
func (b *Batcher) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	defer b.metrics.close()
	defer b.stop()
	done := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		select {
		case <-done: // both at once: nothing was given up
			return nil
		default:
		}
		b.stop()
		<-done
		return errors.Join(errors.New("gave up punches in flight"), ctx.Err())
	}
}
