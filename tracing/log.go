package tracing

import (
	"context"
	"log/slog"
	"slices"

	"go.opentelemetry.io/otel/trace"
)

// NewLogHandler returns a handler that adds the trace_id and span_id of the context to each record and passes the
// record on to next. Both are at the top level, even if a group is open.
func NewLogHandler(next slog.Handler) slog.Handler {
	return &logHandler{root: next, next: next}
}

type logHandler struct {
	next slog.Handler
	// root is the handler before the first group, and since are the steps from root to next. Attributes that are added
	// after a group would be inside the group, so Handle adds the ids to root and repeats the steps.
	root  slog.Handler
	since []func(slog.Handler) slog.Handler
}

// Enabled asks the next handler.
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

// WithAttrs returns a handler that adds attrs to its records.
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

// WithGroup returns a handler that puts the attributes of its records into a group.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(h.next.WithGroup(name), func(n slog.Handler) slog.Handler { return n.WithGroup(name) })
}

func (h *logHandler) with(next slog.Handler, apply func(slog.Handler) slog.Handler) *logHandler {
	return &logHandler{root: h.root, next: next, since: append(slices.Clip(h.since), apply)}
}
