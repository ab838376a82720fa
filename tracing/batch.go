package tracing

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Work names what is done for many items at once.
type Work struct {
	Name string         // of the batch's span, such as "lane.flush"
	Kind trace.SpanKind // of the batch's span
	// Item names the span that each sampled item gets in its own trace, for
	// as long as the work takes, such as "punch.commit".
	Item     string
	ItemKind trace.SpanKind
}

// Batch follows work that is done for many items at once, such as one
// statement for many punches. No item's trace can be the parent of such work,
// so it has a trace of its own, linked with the items' traces both ways, and
// each item's trace has a span that shows how long the work took. Items that
// are not sampled cost nothing; if none is, the batch is not recorded either.
//
// One goroutine at a time may use a Batch.
type Batch struct {
	span  trace.Span
	items []context.Context
	own   []started // parallel to items; nil when no item is sampled
}

type started struct {
	ctx  context.Context
	span trace.Span // nil when not sampled or ended
}

// StartBatch starts the batch's trace and the items' spans. The context it
// returns is ctx with the batch's span, for doing the work: what is started
// below it, such as SQL, belongs to the batch. It does not take deadlines from
// the items. Batch.End must be called.
func StartBatch(ctx context.Context, tracer trace.Tracer, work Work, items []context.Context) (context.Context, *Batch) {
	links := Links(items)
	ctx = context.WithValue(ctx, batchKey{}, len(links) > 0)
	opts := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(work.Kind)}
	if len(links) > 0 {
		opts = append(opts, trace.WithLinks(links...), trace.WithAttributes(BatchSize.Int(len(items))))
	}
	ctx, span := tracer.Start(ctx, work.Name, opts...)
	b := &Batch{span: span, items: items}
	if len(links) > 0 {
		b.startItems(tracer, work)
	}
	return ctx, b
}

func (b *Batch) startItems(tracer trace.Tracer, work Work) {
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(work.ItemKind),
		trace.WithLinks(trace.Link{SpanContext: b.span.SpanContext()}),
		trace.WithAttributes(BatchSize.Int(len(b.items))),
	}
	b.own = make([]started, len(b.items))
	sampled := 0
	for i, item := range b.items {
		if Sampled(item) {
			b.own[i].ctx, b.own[i].span = tracer.Start(item, work.Item, opts...) //nolint:spancheck // End and EndItem end it
			sampled++
		}
	}
	b.span.SetAttributes(BatchSampled.Int(sampled))
}

// Span returns the batch's own span.
func (b *Batch) Span() trace.Span { return b.span }

// Item returns the i-th item's context with its span for this work, or as it
// was when the item is not sampled. It is what travels with the item.
func (b *Batch) Item(i int) context.Context {
	if b.own == nil || b.own[i].ctx == nil {
		return b.items[i]
	}
	return b.own[i].ctx
}

// EndItem ends the i-th item's span with the item's own outcome.
func (b *Batch) EndItem(i int, err error, attrs ...attribute.KeyValue) {
	if b.own == nil || b.own[i].span == nil {
		return
	}
	// A copy, so that attrs stays on the caller's stack when nothing is sampled.
	b.own[i].span.SetAttributes(slices.Clone(attrs)...)
	End(b.own[i].span, err)
	b.own[i].span = nil
}

// End ends the batch, and with the same error every item that has not ended.
func (b *Batch) End(err error) {
	for i := range b.own {
		b.EndItem(i, err)
	}
	End(b.span, err)
}
