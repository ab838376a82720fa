package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// maxTraceState is the longest accepted tracestate of a peer, in bytes. W3C Trace Context requires to carry this
// length. A longer tracestate is dropped.
const maxTraceState = 512

// Inject returns the W3C traceparent and tracestate of the span in ctx, or two empty strings without a span. It is for
// an item in a batch, because the headers of the request belong to the batch.
func Inject(ctx context.Context) (traceparent, tracestate string) {
	var c carrier
	propagation.TraceContext{}.Inject(ctx, &c)
	return c.traceparent, c.tracestate
}

// Extract returns ctx with the remote span of Inject. If there is none, or it is not valid, the returned context has no
// span: an item must not join the trace of the batch that carried it.
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

// Set stores one of the two headers.
func (c *carrier) Set(key, value string) {
	switch key {
	case "traceparent":
		c.traceparent = value
	case "tracestate":
		c.tracestate = value
	}
}

// Keys returns the names of the two headers.
func (c *carrier) Keys() []string { return []string{"traceparent", "tracestate"} }
