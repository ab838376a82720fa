package tracing

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Sampled reports whether the trace in ctx is recorded. Ask before computing
// what only a span would show.
func Sampled(ctx context.Context) bool {
	return trace.SpanContextFromContext(ctx).IsSampled()
}

// TraceID returns the id of the trace in ctx as 32 hex digits, sampled or not,
// and "" when there is none.
func TraceID(ctx context.Context) string {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

// StartItem starts a span for one item, such as a punch, in the item's own
// trace. When that trace is not sampled, or there is none, it returns ctx as it
// is and a span that does nothing, and allocates nothing: it never starts a
// trace. End may be called from another goroutine.
func StartItem(ctx context.Context, tracer trace.Tracer, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if !Sampled(ctx) {
		return ctx, noop.Span{}
	}
	return tracer.Start(ctx, name, trace.WithSpanKind(kind)) //nolint:spancheck // the caller ends it
}

// End ends a span, marked as failed when err is not nil.
func End(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Links returns a link to each sampled item, in order; items of one span in a
// row, such as those of one request, share a link.
func Links(items []context.Context) []trace.Link {
	var links []trace.Link
	var last trace.SpanContext
	for _, ctx := range items {
		sc := trace.SpanContextFromContext(ctx)
		if sc.IsSampled() && !(sc.SpanID() == last.SpanID() && sc.TraceID() == last.TraceID()) {
			links = append(links, trace.Link{SpanContext: sc})
			last = sc
		}
	}
	return links
}
