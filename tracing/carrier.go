package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// maxTraceState is the longest tracestate that is taken from a peer, in bytes:
// what W3C Trace Context asks everyone to carry. A longer one is left behind.
const maxTraceState = 512

// Inject returns the W3C traceparent and tracestate of the span in ctx, for an
// item that travels in a batch: a request's headers belong to the batch. Both
// are empty when there is no span.
func Inject(ctx context.Context) (traceparent, tracestate string) {
	var c carrier
	propagation.TraceContext{}.Inject(ctx, &c)
	return c.traceparent, c.tracestate
}

// Extract returns ctx with the remote span that Inject described. When there
// is none, or it makes no sense, the context has no span at all: an item must
// not end up in the trace of the batch that brought it.
func Extract(ctx context.Context, traceparent, tracestate string) context.Context {
	if len(tracestate) > maxTraceState {
		tracestate = ""
	}
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, &carrier{traceparent, tracestate})
}

// carrier holds the two headers of W3C Trace Context.
type carrier struct{ traceparent, tracestate string }

// Get returns a header.
func (c *carrier) Get(key string) string {
	switch key {
	case "traceparent":
		return c.traceparent
	case "tracestate":
		return c.tracestate
	default:
		return ""
	}
}

// Set keeps one of the two headers.
func (c *carrier) Set(key, value string) {
	switch key {
	case "traceparent":
		c.traceparent = value
	case "tracestate":
		c.tracestate = value
	}
}

// Keys names the two headers.
func (c *carrier) Keys() []string { return []string{"traceparent", "tracestate"} }
