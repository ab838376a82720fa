package httpapi

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// This file replaces otelhttp. Its wrappers around request, response and attributes took 4 of 10 µs per punch, sampled or
// not. It also names a span by the pattern only after the sampler has seen the name.

// spanOptions make each request a trace of its own.
var spanOptions = []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer)}

// startSpan starts a trace for the request. The caller's trace is linked and not continued, because sampling is the
// choice and the cost of this deployment. The caller's baggage is ignored.
func (a *API) startSpan(r *http.Request, pattern, path string) (context.Context, trace.Span) {
	opts := spanOptions
	if r.Header["Traceparent"] != nil {
		remote := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header))
		if caller := trace.SpanContextFromContext(remote); caller.IsValid() {
			opts = []trace.SpanStartOption{opts[0], opts[1], trace.WithLinks(trace.Link{SpanContext: caller})}
		}
	}
	ctx, span := a.tracer.Start(r.Context(), pattern, opts...)
	if span.IsRecording() {
		span.SetAttributes(
			semconv.HTTPRequestMethodKey.String(r.Method), semconv.HTTPRoute(path), semconv.URLPath(r.URL.Path),
			semconv.NetworkPeerAddress(r.RemoteAddr), semconv.NetworkProtocolVersion(r.Proto), semconv.UserAgentOriginal(r.UserAgent()),
		)
	}
	return ctx, span
}

// endSpan ends the request's span. By OpenTelemetry's conventions a 4xx status is no error of the server.
func endSpan(span trace.Span, status int) {
	if span.IsRecording() {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
	}
	span.End()
}
