package tracing_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"testing/slogtest"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/tracing"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestLogHandlerKeepsTheRulesOfSlog(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return tracing.NewLogHandler(slog.NewJSONHandler(&out, nil))
	}, func(t *testing.T) map[string]any { return lastLine(t, out.Bytes()) })
}

func lastLine(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("the log line %s is not JSON: %v", b, err)
	}
	return m
}

func TestLogLinesHaveTheirTrace(t *testing.T) {
	ctx, _ := inBatch()
	wantTrace, wantSpan := trace.TraceID{9}.String(), trace.SpanID{9}.String()
	for name, with := range map[string]func(*slog.Logger) *slog.Logger{
		"plain":           func(l *slog.Logger) *slog.Logger { return l },
		"with attributes": func(l *slog.Logger) *slog.Logger { return l.With("part", "batcher") },
		"in a group":      func(l *slog.Logger) *slog.Logger { return l.With("part", "batcher").WithGroup("g").With("a", 1) },
		"in two groups":   func(l *slog.Logger) *slog.Logger { return l.WithGroup("g").With("a", 1).WithGroup("h") },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			log := with(slog.New(tracing.NewLogHandler(slog.NewJSONHandler(&out, nil))))
			log.InfoContext(ctx, "committed", "rows", 3)
			got := lastLine(t, out.Bytes())
			if got["trace_id"] != wantTrace || got["span_id"] != wantSpan {
				t.Errorf("the line is %s, want trace_id %s and span_id %s at its top", out.String(), wantTrace, wantSpan)
			}
			if g, ok := got["g"].(map[string]any); ok && (g["a"] != 1.0 || g["trace_id"] != nil) {
				t.Errorf("the group is %v, want a=1 and no trace in it", g)
			}
			out.Reset()
			log.InfoContext(t.Context(), "started")
			if got := lastLine(t, out.Bytes()); got["trace_id"] != nil {
				t.Errorf("a line without a trace has one: %s", out.String())
			}
		})
	}
}
