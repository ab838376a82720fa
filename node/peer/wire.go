package peer

import (
	"cmp"
	"context"
	"time"

	"github.com/punchclock/punchclock/node/peer/peerpb"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// toWire encodes an item with the time left until its own deadline, or until the call ends if that is earlier. The peer
// must answer for every item before the call ends. Otherwise a slow database would look like a silent peer.
func toWire(it *punch.Item, now, callEnds time.Time) *peerpb.Item {
	w := &peerpb.Item{
		Company: it.Company, Employee: it.Employee, Id: it.ID[:], Kind: string(it.Kind), Source: it.Source, Note: it.Note,
		ReceivedAt: it.ReceivedAt.UnixMicro(), EntryRegion: it.EntryRegion, TraceId: it.TraceID, Late: it.Late, Review: it.NeedsReview,
		HomeRegion: it.HomeRegion, Epoch: it.Epoch, Zone: it.Zone, UtcOffset: it.UTCOffset,
		Outbox: punch.FromOutbox(it.Ctx),
	}
	if !it.At.IsZero() {
		at := it.At.UnixMicro()
		w.At = &at
	}
	ends := callEnds
	if deadline, ok := it.Ctx.Deadline(); ok && deadline.Before(ends) {
		ends = deadline
	}
	w.TimeoutMicros = shave(ends.Sub(now)).Microseconds()
	if tracing.Sampled(it.Ctx) {
		w.Traceparent, w.Tracestate = tracing.Inject(it.Ctx)
	}
	return w
}

// shave leaves a tenth of the time for the way back, and at most 300 ms: about the longest round trip between two regions.
func shave(left time.Duration) time.Duration {
	return left - min(left/10, 300*time.Millisecond)
}

// fromWire decodes an item of a request with the given context. The returned cancel must be called.
func fromWire(ctx context.Context, w *peerpb.Item) (punch.Item, context.CancelFunc) {
	p := punch.Punch{Request: punch.Request{
		Company: w.GetCompany(), Employee: w.GetEmployee(), Kind: punch.Kind(w.GetKind()), Source: w.GetSource(), Note: w.GetNote(),
	},
		Stamp: punch.Stamp{
			ReceivedAt: time.UnixMicro(w.GetReceivedAt()).UTC(), EntryRegion: w.GetEntryRegion(), TraceID: w.GetTraceId(),
			Late: w.GetLate(), NeedsReview: w.GetReview(),
		},
		Route: punch.Route{HomeRegion: w.GetHomeRegion(), Epoch: w.GetEpoch(), Zone: w.GetZone(), UTCOffset: w.GetUtcOffset()},
	}
	if len(w.GetId()) == len(p.ID) {
		copy(p.ID[:], w.GetId())
	}
	if w.At != nil {
		p.At = time.UnixMicro(w.GetAt()).UTC()
	}
	timeout := time.Duration(w.GetTimeoutMicros()) * time.Microsecond
	if timeout == 0 || timeout > maxTimeout { // zero means none; a negative one has run out on the way
		timeout = maxTimeout
	}
	ctx, cancel := context.WithTimeout(tracing.Extract(ctx, w.GetTraceparent(), w.GetTracestate()), timeout)
	if w.GetOutbox() {
		ctx = punch.WithOutbox(ctx)
	}
	return punch.Item{Ctx: ctx, Punch: p}, cancel
}

// maxTimeout bounds the time that a caller may ask for: the longest punch timeout that a node's configuration allows.
const maxTimeout = 2 * time.Minute

// resultToWire encodes the outcome of an item that was routed to the given home.
func resultToWire(o *punch.Outcome, home string) *peerpb.Result {
	if o.Err != nil {
		e := punch.AsError(o.Err)
		return &peerpb.Result{Code: string(e.Code), Field: e.Field, Message: e.Message, RetryAfterMicros: e.RetryAfter.Microseconds()}
	}
	r := &o.Receipt
	w := &peerpb.Result{RecordedAt: r.RecordedAt.UnixMicro(), Replayed: r.Replayed}
	if r.Replayed || r.HomeRegion != home {
		w.Original = &peerpb.Original{
			ReceivedAt: r.ReceivedAt.UnixMicro(), EntryRegion: r.EntryRegion, TraceId: r.TraceID,
			Late: r.Late, Review: r.NeedsReview, Zone: r.Zone, UtcOffset: r.UTCOffset, HomeRegion: r.HomeRegion,
		}
	}
	return w
}

func resultFromWire(p *punch.Punch, w *peerpb.Result) punch.Outcome {
	if w.GetCode() != "" {
		return punch.Outcome{Err: &punch.Error{
			Code: punch.Code(w.GetCode()), Field: w.GetField(), Message: w.GetMessage(),
			RetryAfter: time.Duration(w.GetRetryAfterMicros()) * time.Microsecond,
		}}
	}
	if w.GetRecordedAt() <= 0 { // a receipt needs the database's time
		return punch.Outcome{Err: punch.Retryable(punch.Unavailable, time.Second,
			"the company's home region did not confirm the punch; send it again with the same id", nil)}
	}
	r := p.Receipt(time.UnixMicro(w.GetRecordedAt()))
	r.Replayed = w.GetReplayed()
	if o := w.GetOriginal(); o != nil {
		r.ReceivedAt = time.UnixMicro(o.GetReceivedAt()).UTC()
		r.EntryRegion, r.TraceID = o.GetEntryRegion(), o.GetTraceId()
		r.Late, r.NeedsReview = o.GetLate(), o.GetReview()
		r.Zone, r.UTCOffset = o.GetZone(), o.GetUtcOffset()
		r.HomeRegion = cmp.Or(o.GetHomeRegion(), r.HomeRegion)
	}
	return punch.Outcome{Receipt: r}
}
