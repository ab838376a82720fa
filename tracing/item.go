package tracing

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Sampled reports whether the trace in ctx is recorded. Check it before computing a value that only a span shows.
func Sampled(ctx context.Context) bool {
	return trace.SpanContextFromContext(ctx).IsSampled()
}

// TraceID returns the id of the trace in ctx as 32 hex digits, sampled or not. Without a trace it returns "".
func TraceID(ctx context.Context) string {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

// StartItem starts a span for one item, such as a punch, in the item's own trace. It never starts a trace. Without a
// sampled trace it returns ctx and a span that does nothing, and allocates nothing. Another goroutine may call End.
func StartItem(ctx context.Context, tracer trace.Tracer, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if !Sampled(ctx) {
		return ctx, noop.Span{}
	}
	return tracer.Start(ctx, name, trace.WithSpanKind(kind)) //nolint:spancheck // the caller ends it
}

// End ends a span and marks it as failed if err is not nil.
func End(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// Links returns a link to each sampled item, in order. Neighbouring items of one span, such as the punches of one
// request, share a link.
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
