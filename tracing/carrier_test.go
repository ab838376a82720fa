package tracing_test

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/tracing"
)

func TestItemKeepsItsContext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c trace.SpanContextConfig
		copy(c.TraceID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "trace"))
		copy(c.SpanID[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "span"))
		c.TraceFlags = c.TraceFlags.WithSampled(rapid.Bool().Draw(t, "sampled"))
		c.TraceState, _ = trace.ParseTraceState(rapid.SampledFrom([]string{"", "a=1", "a=1,b=2"}).Draw(t, "state"))
		sent := trace.NewSpanContext(c)
		parent, state := tracing.Inject(trace.ContextWithSpanContext(context.Background(), sent))
		got := trace.SpanContextFromContext(tracing.Extract(context.Background(), parent, state))
		if !sent.IsValid() {
			if parent != "" || got.IsValid() {
				t.Fatalf("no span was sent, but Inject returned %q and Extract %v", parent, got)
			}
			return
		}
		if !got.Equal(sent.WithRemote(true)) {
			t.Fatalf("sent %v as %q, %q; arrived %v", sent, parent, state, got)
		}
	})
}

func inBatch() (context.Context, trace.SpanContext) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{9}, SpanID: trace.SpanID{9}, TraceFlags: trace.FlagsSampled})
	return trace.ContextWithSpanContext(context.Background(), sc), sc
}

func TestItemWithoutContextDoesNotJoinTheBatch(t *testing.T) {
	for _, parent := range []string{"", "nonsense", "00-00000000000000000000000000000000-0000000000000000-01"} {
		ctx, _ := inBatch()
		if id := tracing.TraceID(tracing.Extract(ctx, parent, "")); id != "" {
			t.Errorf("an item with traceparent %q is in trace %s, want none", parent, id)
		}
	}
}

const someParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func FuzzExtract(f *testing.F) {
	for _, parent := range []string{"", someParent, strings.ToUpper(someParent), someParent + "-x", "cc" + someParent[2:] + "-more", "ff" + someParent[2:], "00-\x00"} {
		for _, state := range []string{"", "a=1,b=2", "a=1,a=2", "=", strings.Repeat("k=v,", 200), "é=ü"} {
			f.Add(parent, state)
		}
	}
	f.Fuzz(func(t *testing.T, parent, state string) {
		ctx, batch := inBatch()
		sc := trace.SpanContextFromContext(tracing.Extract(ctx, parent, state))
		if sc.Equal(batch) {
			t.Fatalf("Extract(%q, %q) left the item in the batch's trace", parent, state)
		}
		if len(sc.TraceState().String()) > 512 {
			t.Fatalf("Extract(%q, %q) took a tracestate of %d bytes", parent, state, len(sc.TraceState().String()))
		}
		if !sc.IsValid() {
			return
		}
		if !sc.IsRemote() {
			t.Fatalf("Extract(%q, %q) made a span of this process", parent, state)
		}
		again := trace.SpanContextFromContext(tracing.Extract(ctx, first(tracing.Inject(trace.ContextWithSpanContext(ctx, sc))), sc.TraceState().String()))
		if again.TraceID() != sc.TraceID() || again.SpanID() != sc.SpanID() || again.IsSampled() != sc.IsSampled() {
			t.Fatalf("Extract(%q, %q) is %v and became %v after another Inject and Extract", parent, state, sc, again)
		}
	})
}

func first(a, _ string) string { return a }
