// Package batcher is group commit: callers wait in a bounded queue, whatever
// waits is written together as soon as the writer has a hand free, and each
// caller gets the outcome of its own item. It does not know what a write is:
// a statement in the home region's database, or a call to another region.
package batcher

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// Writer writes a batch and returns one outcome per item, in order. It returns
// by the context's deadline. Items of one batch may carry the same key.
type Writer interface {
	Write(ctx context.Context, items []punch.Item) []punch.Outcome
}

// Config bounds a lane.
type Config struct {
	Home     string // home region whose punches this lane carries; a metric label
	Kind     string // what a write is, such as "database"; a metric label
	MaxItems int    // most items waiting
	MaxBytes int    // most memory in bytes that waiting items hold, by punch.Size
	// BatchItems is the most items in one write.
	BatchItems int
	// Flushes is the most writes in flight, and so the connections they use.
	Flushes int
	// Work names the spans of a write, for the batch and for each item.
	Work tracing.Work
}

// Lane is a queue and its flushers. It is safe for concurrent use.
//
// There is no linger timer: an idle lane writes a lone punch at once, and
// batches grow by themselves while the writes in flight take their time.
type Lane struct {
	cfg     Config
	writer  Writer
	tracer  trace.Tracer
	metrics *instruments

	// stop ends the writes that are still in flight when Close gives up.
	stop    context.CancelFunc
	running context.Context //nolint:containedctx // the lifetime of the lane's own work
	wg      sync.WaitGroup

	mu       sync.Mutex // guards what follows
	queue    queue
	flushers int
	pace     time.Duration // smoothed duration of a write that worked
	circuit  circuit
	closed   bool
}

// Deps is what a lane reports to.
type Deps struct {
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
}

// New makes a lane in front of writer. Close must be called.
func New(cfg Config, writer Writer, deps Deps) (*Lane, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Lane{cfg: cfg, writer: writer, tracer: deps.Tracer.Tracer("punchclock/lane"), running: ctx, stop: cancel}
	var err error
	if l.metrics, err = newInstruments(deps.Meter, cfg, l); err != nil {
		cancel()
		return nil, err
	}
	return l, nil
}

// entry is an item that waits, or is being written.
type entry struct {
	item     punch.Item
	queuedAt time.Time
	wait     trace.Span
	done     chan punch.Outcome // has room for the one outcome
}

// Record waits in the lane and returns the outcome of p. When ctx ends first,
// p may or may not be committed.
func (l *Lane) Record(ctx context.Context, p punch.Punch) (punch.Receipt, error) {
	out := l.RecordAll([]punch.Item{{Ctx: ctx, Punch: p}})[0]
	return out.Receipt, out.Err
}

// RecordAll records items that arrived together, each under its own context,
// and returns their outcomes in order.
func (l *Lane) RecordAll(items []punch.Item) []punch.Outcome {
	outcomes := make([]punch.Outcome, len(items))
	entries := make([]*entry, len(items))
	for i := range items {
		e := &entry{item: items[i], queuedAt: time.Now(), done: make(chan punch.Outcome, 1)}
		if err := l.enqueue(e); err != nil {
			l.metrics.refuse(items[i].Ctx, err)
			outcomes[i].Err = err
			continue
		}
		entries[i] = e
	}
	for i, e := range entries {
		if e == nil {
			continue
		}
		select {
		case outcomes[i] = <-e.done:
		case <-e.item.Ctx.Done():
			outcomes[i].Err = tooLate(context.Cause(e.item.Ctx))
		}
	}
	return outcomes
}

func tooLate(cause error) error {
	return punch.Retryable(punch.Unavailable, time.Second, "the punch was not confirmed in time; send it again with the same id", cause)
}

// enqueue admits the entry and makes sure that somebody will flush it.
func (l *Lane) enqueue(e *entry) error {
	if err := e.item.Ctx.Err(); err != nil {
		return tooLate(err)
	}
	_, e.wait = tracing.StartItem(e.item.Ctx, l.tracer, "lane.wait", trace.SpanKindInternal)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.admit(e); err != nil {
		tracing.End(e.wait, err)
		return err
	}
	if e.wait.IsRecording() {
		e.wait.SetAttributes(tracing.HomeRegion.String(l.cfg.Home), tracing.QueueDepth.Int(l.queue.len()))
	}
	l.queue.push(e)
	if l.flushers < l.cfg.Flushes {
		l.flushers++
		l.wg.Add(1)
		go l.flush()
	}
	return nil
}

// longestWait bounds what a caller is told to wait: the pace is an estimate, and
// whoever stays away for long misses that the lane has emptied.
const longestWait = 2 * time.Second

// admit refuses what would not fit, or would wait past its deadline: better at
// once than late. A lane that is not full always admits, so that it cannot
// talk itself out of work by what it learnt in bad times.
func (l *Lane) admit(e *entry) error {
	if l.closed {
		return punch.Retryable(punch.Unavailable, time.Second, "this node is shutting down; use another one", nil)
	}
	if !l.circuit.admits(time.Now()) {
		return punch.Retryable(punch.Unavailable, retryAfter, "the company's home region does not answer; send the punch again with the same id", nil)
	}
	if l.queue.len() >= l.cfg.MaxItems || l.queue.bytes+e.item.Size() > l.cfg.MaxBytes {
		return punch.Retryable(punch.Overloaded, time.Second, "too many punches of this home region are waiting here", nil)
	}
	ahead := l.queue.len() / (l.cfg.BatchItems * l.cfg.Flushes)
	if deadline, ok := e.item.Ctx.Deadline(); ok && ahead > 0 {
		if wait := l.pace * time.Duration(ahead+1); time.Until(deadline) < wait {
			return punch.Retryable(punch.Overloaded, min(wait, longestWait), "the punches waiting here would not let this one be written in time", nil)
		}
	}
	return nil
}

func (l *Lane) depth() (items, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.len(), l.queue.bytes
}

// Waiting returns how many items wait.
func (l *Lane) Waiting() int {
	items, _ := l.depth()
	return items
}

// Open reports whether the lane's circuit is open: no write has worked for a
// while, and only probes are let in.
func (l *Lane) Open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.circuit.open(time.Now())
}

// Close refuses new items, writes those that wait, and returns when all
// outcomes are out. When ctx ends first, what is in flight is given up, its
// callers are told to retry, and ctx's error is returned. It may be called
// more than once.
func (l *Lane) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	defer l.metrics.close()
	defer l.stop()
	done := make(chan struct{})
	go func() {
		l.wg.Wait()
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
		l.stop()
		<-done
		return errors.Join(errors.New("gave up punches in flight"), ctx.Err())
	}
}
