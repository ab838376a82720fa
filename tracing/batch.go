package tracing

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// BatchSpec names the spans of a batch.
type BatchSpec struct {
	Name string         // the name of the batch's span, such as "batch.write"
	Kind trace.SpanKind // the kind of the batch's span
	// Item is the name of the span that each sampled item gets in its own trace, such as "punch.commit".
	Item     string
	ItemKind trace.SpanKind
}

// Batch traces work for many items at once, such as one statement for many punches. No item's trace can be the parent
// of such work, so the batch has its own trace. Links connect it with the items' traces in both directions. Each item's
// trace has a span that shows how long the work took.
//
// Items without sampling cost nothing. If no item is sampled, the batch is not recorded. One goroutine at a time may
// use a Batch.
type Batch struct {
	span  trace.Span
	items []context.Context
	own   []started // parallel to items; nil if no item is sampled
}

type started struct {
	ctx  context.Context
	span trace.Span // nil if not sampled, or ended
}

// StartBatch starts the batch's trace and the items' spans. The returned context is ctx with the batch's span: spans
// below it, such as SQL, belong to the batch. It has no deadlines of the items. Batch.End must be called.
func StartBatch(ctx context.Context, tracer trace.Tracer, spec BatchSpec, items []context.Context) (context.Context, *Batch) {
	links := Links(items)
	ctx = context.WithValue(ctx, batchKey{}, len(links) > 0)
	opts := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(spec.Kind)}
	if len(links) > 0 {
		opts = append(opts, trace.WithLinks(links...), trace.WithAttributes(BatchSize.Int(len(items))))
	}
	ctx, span := tracer.Start(ctx, spec.Name, opts...)
	b := &Batch{span: span, items: items}
	if len(links) > 0 {
		b.startItems(tracer, spec)
	}
	return ctx, b
}

func (b *Batch) startItems(tracer trace.Tracer, spec BatchSpec) {
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(spec.ItemKind),
		trace.WithLinks(trace.Link{SpanContext: b.span.SpanContext()}),
		trace.WithAttributes(BatchSize.Int(len(b.items))),
	}
	b.own = make([]started, len(b.items))
	sampled := 0
	for i, item := range b.items {
		if Sampled(item) {
			b.own[i].ctx, b.own[i].span = tracer.Start(item, spec.Item, opts...) //nolint:spancheck // End and EndItem end it
			sampled++
		}
	}
	b.span.SetAttributes(BatchSampled.Int(sampled))
}

// Item returns the i-th item's context with its span for this work, or its unchanged context if the item is not
// sampled. Send this context with the item.
func (b *Batch) Item(i int) context.Context {
	if b.own == nil || b.own[i].ctx == nil {
		return b.items[i]
	}
	return b.own[i].ctx
}

// EndItem ends the i-th item's span with the item's own result.
func (b *Batch) EndItem(i int, err error, attrs ...attribute.KeyValue) {
	if b.own == nil || b.own[i].span == nil {
		return
	}
	// The copy keeps attrs on the caller's stack if nothing is sampled.
	b.own[i].span.SetAttributes(slices.Clone(attrs)...)
	End(b.own[i].span, err)
	b.own[i].span = nil
}

// End ends the batch and, with the same error, every item that has not ended.
func (b *Batch) End(err error) {
	for i := range b.own {
		b.EndItem(i, err)
	}
	End(b.span, err)
}
