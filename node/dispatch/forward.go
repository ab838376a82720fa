package dispatch

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/tracing"
)

// forwarder is the Writer of a batcher towards another region. It calls nodes of the home, one candidate after the other
// inside the same deadline, and writes through this node's own database gateway last.
type forwarder struct {
	dispatch *Dispatch
	home     region.Name
	retries  *budget
}

// Write implements Writer.
func (f *forwarder) Write(ctx context.Context, items []punch.Item) []punch.Outcome {
	outcomes := make([]punch.Outcome, len(items))
	left := make([]int, len(items)) // places of the items that have no final outcome yet
	for i := range left {
		left[i] = i
	}
	called := 0
	for _, c := range f.dispatch.candidates(f.home) {
		if c.Local {
			f.dispatch.metrics.countForwarded(ctx, f.home, "local", len(left))
			scatter(outcomes, left, f.writeLocally(ctx, gather(items, left)))
			break
		}
		if called > 0 && !f.retries.spend(time.Now(), len(left)) {
			continue
		}
		breaker := f.dispatch.breakers.of(c.Node)
		if !breaker.TryAcquirePermit() { // another batch is probing the peer
			continue
		}
		called++
		annotate(items, left, c, called)
		var result verdict
		left, result = f.call(ctx, c, items, left, outcomes)
		switch {
		case result == succeeded:
			breaker.RecordSuccess()
		case result == failed, breaker.IsHalfOpen(): // an inconclusive probe must not close the breaker
			breaker.RecordFailure()
		}
		if called == 1 {
			f.retries.sent(time.Now(), len(items))
		}
		if len(left) == 0 {
			break
		}
	}
	return outcomes
}

// verdict is what a call shows about the peer, whatever became of its items.
type verdict int

const (
	inconclusive verdict = iota // the call was given up before the peer had its time
	succeeded
	failed
)

// call asks one candidate. It returns the items that the next candidate may still record, and what the call shows about
// the peer.
func (f *forwarder) call(
	ctx context.Context, c region.Candidate, items []punch.Item, places []int, outcomes []punch.Outcome,
) (left []int, v verdict) {
	d := f.dispatch
	call, cancel := context.WithTimeout(ctx, d.cfg.CallTimeout)
	defer cancel()
	lag, began := watchLag(), time.Now()
	defer lag.stop()
	results, overhead, err := d.deps.Peers.RecordBatch(call, string(c.Region), c.PeerAddr, gather(items, places))
	if punch.CodeOf(err) == punch.Overloaded {
		d.metrics.countForwarded(ctx, f.home, "full", len(places))
		d.breakers.of(c.Node).setFull(time.Now())
		for _, i := range places {
			outcomes[i].Err = err
		}
		return places, succeeded
	}
	if err != nil {
		d.metrics.countForwarded(ctx, f.home, "failed", len(places))
		err = punch.Retryable(punch.Unavailable, time.Second,
			"the company's home region did not answer in time; send the punch again with the same id", err)
		for _, i := range places {
			outcomes[i].Err = err
		}
		if ctx.Err() != nil { // the batch itself was given up
			return places, inconclusive
		}
		d.failedCalls.Do(func() {
			d.deps.Log.WarnContext(ctx, "a call to a peer failed", "peer", c.Node, "error", err)
		})
		return places, failed
	}
	scatter(outcomes, places, results)
	for _, i := range places {
		// The next candidate may reach the database. Overloaded is about the home's database, which is the same for every
		// candidate: to ask each of them would multiply the overload.
		if punch.CodeOf(outcomes[i].Err) == punch.Unavailable {
			left = append(left, i)
		}
	}
	d.metrics.countForwarded(ctx, f.home, "done", len(places)-len(left))
	d.metrics.countForwarded(ctx, f.home, "retried", len(left))
	now := time.Now()
	slow := d.breakers.recordAnswer(c.Node, answer{home: c.Region, at: now, took: now.Sub(began)})
	if (slow || overhead > slowAfter) && lag.seen() < slowAfter/2 {
		return left, failed
	}
	return left, succeeded
}

// lag measures how late this process itself runs. A peer must not be blamed for a call that waited for this node's
// processor.
type lag struct {
	timer *time.Timer
	late  atomic.Int64 // nanoseconds
}

func watchLag() *lag {
	const after = 50 * time.Millisecond // longer than a call that is not slow
	l, start := &lag{}, time.Now()
	l.timer = time.AfterFunc(after, func() { l.late.Store(int64(time.Since(start) - after)) })
	return l
}

func (l *lag) seen() time.Duration { return time.Duration(l.late.Load()) }

func (l *lag) stop() { l.timer.Stop() }

// writeLocally writes through this node's own gateway, which is only farther from the home.
func (f *forwarder) writeLocally(ctx context.Context, items []punch.Item) []punch.Outcome {
	batcher, err := f.dispatch.local.get(ctx, f.home)
	if err == nil {
		return batcher.RecordBatch(items)
	}
	outcomes := make([]punch.Outcome, len(items))
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}

// annotate puts the candidate on the spans of the items that it is asked to record.
func annotate(items []punch.Item, places []int, c region.Candidate, attempt int) {
	for _, i := range places {
		if tracing.Sampled(items[i].Ctx) {
			trace.SpanFromContext(items[i].Ctx).SetAttributes(tracing.Attempt.Int(attempt),
				tracing.CandidateNode.String(c.Node), tracing.CandidateRegion.String(string(c.Region)))
		}
	}
}

// gather returns the items at the given places.
func gather(items []punch.Item, places []int) []punch.Item {
	if len(places) == len(items) {
		return items
	}
	some := make([]punch.Item, len(places))
	for j, i := range places {
		some[j] = items[i]
	}
	return some
}

// scatter puts results back at the places that gather took their items from.
func scatter(outcomes []punch.Outcome, places []int, results []punch.Outcome) {
	for j, i := range places {
		outcomes[i] = results[j]
	}
}
