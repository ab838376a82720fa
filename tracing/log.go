package tracing

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// NewLogHandler returns a handler that adds trace_id and span_id from the
// context to each record, at the top level whatever group is open, and passes
// it on to next.
func NewLogHandler(next slog.Handler) slog.Handler {
	return &logHandler{root: next, next: next}
}

type logHandler struct {
	next slog.Handler
	// root and since tell how next came to be, from the first group on: what
	// is added behind a group would land inside it.
	root  slog.Handler
	since []func(slog.Handler) slog.Handler
}

// Enabled asks the handler behind.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle adds the ids and passes the record on.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return h.next.Handle(ctx, r)
	}
	traceID, spanID := slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String())
	if len(h.since) == 0 {
		r = r.Clone() // other handlers may hold the same record
		r.AddAttrs(traceID, spanID)
		return h.next.Handle(ctx, r)
	}
	next := h.root.WithAttrs([]slog.Attr{traceID, spanID})
	for _, apply := range h.since {
		next = apply(next)
	}
	return next.Handle(ctx, r)
}

// WithAttrs returns a handler whose records have attrs, too.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	next := h.next.WithAttrs(attrs)
	if len(h.since) == 0 {
		return &logHandler{root: next, next: next}
	}
	return h.with(next, func(n slog.Handler) slog.Handler { return n.WithAttrs(attrs) })
}

// WithGroup returns a handler whose records' attributes are in a group.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(h.next.WithGroup(name), func(n slog.Handler) slog.Handler { return n.WithGroup(name) })
}

func (h *logHandler) with(next slog.Handler, apply func(slog.Handler) slog.Handler) *logHandler {
	return &logHandler{root: h.root, next: next, since: append(slices.Clip(h.since), apply)}
}
