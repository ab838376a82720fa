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

// hop writes batches by calling nodes of their home region, one candidate after
// the other inside the same deadline, and through this node's own database
// gateway last. It is the writer behind a lane towards another region.
type hop struct {
	dispatch *Dispatch
	home     region.Name
	retries  *budget
}

// Write implements Writer.
func (h *hop) Write(ctx context.Context, items []punch.Item) []punch.Outcome {
	outcomes := make([]punch.Outcome, len(items))
	left := make([]int, len(items))
	for i := range left {
		left[i] = i
	}
	asked := 0
	for _, c := range h.dispatch.route(h.home) {
		if c.Local {
			if left = notFull(left, outcomes); len(left) > 0 {
				h.dispatch.metrics.hopped(ctx, h.home, "here", len(left))
				scatter(outcomes, left, h.here(ctx, gather(items, left)))
			}
			break
		}
		if asked > 0 && !h.retries.spend(time.Now(), len(left)) {
			continue
		}
		circuit := h.dispatch.circuits.of(c.Node)
		if !circuit.TryAcquirePermit() { // somebody else is probing it
			continue
		}
		asked++
		note(items, left, c, asked)
		var verdict verdict
		left, verdict = h.call(ctx, c, items, left, outcomes)
		switch {
		case verdict == worked:
			circuit.RecordSuccess()
		case verdict == failed, circuit.IsHalfOpen(): // a probe that shows nothing must not close it
			circuit.RecordFailure()
		}
		if asked == 1 {
			h.retries.sent(time.Now(), len(items))
		}
		if len(left) == 0 {
			break
		}
	}
	return outcomes
}

// notFull leaves out the items that the home refused because it is full:
// another waiting room before the same database would undo its shedding.
func notFull(places []int, outcomes []punch.Outcome) (left []int) {
	for _, i := range places {
		if punch.CodeOf(outcomes[i].Err) != punch.Overloaded {
			left = append(left, i)
		}
	}
	return left
}

// verdict is what a call says of the peer, whatever it says of the items.
type verdict int

const (
	unclear verdict = iota // the call was given up before the peer had its time
	worked
	failed
)

// call asks one candidate. It returns the items that another may still settle,
// and what the call says of the peer.
func (h *hop) call(ctx context.Context, c region.Candidate, items []punch.Item, places []int, outcomes []punch.Outcome) (left []int, v verdict) {
	call, cancel := context.WithTimeout(ctx, h.dispatch.cfg.CallTimeout)
	defer cancel()
	lag, began := watchLag(), time.Now()
	defer lag.stop()
	results, overhead, err := h.dispatch.deps.Peers.Record(call, string(c.Region), c.PeerAddr, gather(items, places))
	if err != nil {
		h.dispatch.metrics.hopped(ctx, h.home, "failed", len(places))
		err = punch.Retryable(punch.Unavailable, time.Second, "the company's home region did not answer in time; send the punch again with the same id", err)
		for _, i := range places {
			outcomes[i].Err = err
		}
		if ctx.Err() != nil { // the batch itself was given up
			return places, unclear
		}
		h.dispatch.complain.Do(func() {
			h.dispatch.deps.Log.WarnContext(ctx, "a call to a peer failed", "peer", c.Node, "error", err)
		})
		return places, failed
	}
	scatter(outcomes, places, results)
	for _, i := range places {
		switch punch.CodeOf(outcomes[i].Err) {
		case punch.Unavailable, punch.Overloaded: // the next one may have room, or reach the database
			left = append(left, i)
		}
	}
	h.dispatch.metrics.hopped(ctx, h.home, "settled", len(places)-len(left))
	h.dispatch.metrics.hopped(ctx, h.home, "passed_on", len(left))
	now := time.Now()
	slow := h.dispatch.circuits.slow(c.Node, answered{home: c.Region, at: now, took: now.Sub(began)})
	if (slow || overhead > slowAfter) && lag.seen() < slowAfter/2 {
		return left, failed
	}
	return left, worked
}

// lag tells how late this process is itself: a call that waited for our own
// processor must not be blamed on the peer.
type lag struct {
	timer *time.Timer
	late  atomic.Int64 // nanoseconds
}

func watchLag() *lag {
	const after = 50 * time.Millisecond // longer than the calls that are not slow
	l, start := &lag{}, time.Now()
	l.timer = time.AfterFunc(after, func() { l.late.Store(int64(time.Since(start) - after)) })
	return l
}

func (l *lag) seen() time.Duration { return time.Duration(l.late.Load()) }

func (l *lag) stop() { l.timer.Stop() }

// here writes through this node's own gateway, which is only farther.
func (h *hop) here(ctx context.Context, items []punch.Item) []punch.Outcome {
	lane, err := h.dispatch.local.get(ctx, h.home)
	if err == nil {
		return lane.RecordAll(items)
	}
	outcomes := make([]punch.Outcome, len(items))
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}

// note puts the candidate on the spans of the items that it is asked for.
func note(items []punch.Item, places []int, c region.Candidate, attempt int) {
	for _, i := range places {
		if tracing.Sampled(items[i].Ctx) {
			trace.SpanFromContext(items[i].Ctx).SetAttributes(tracing.Attempt.Int(attempt),
				tracing.CandidateNode.String(c.Node), tracing.CandidateRegion.String(string(c.Region)))
		}
	}
}

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

func scatter(outcomes []punch.Outcome, places []int, results []punch.Outcome) {
	for j, i := range places {
		outcomes[i] = results[j]
	}
}
