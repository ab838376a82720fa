package tracing_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/tracing"
)

// TestOnePunchIsOneTraceOverTwoNodes follows a punch in batches from us-east to its home in eu-west.
func TestOnePunchIsOneTraceOverTwoNodes(t *testing.T) {
	sink := startSink(t, nil)
	entry, home := mustSetup(t, "us-east-a", "us-east", io.Discard), mustSetup(t, "eu-west-b", "eu-west", io.Discard)
	entryTracer, homeTracer := entry.TracerProvider.Tracer("test"), home.TracerProvider.Tracer("test")

	ctx, request := entryTracer.Start(t.Context(), "POST /v1/punches", trace.WithSpanKind(trace.SpanKindServer))
	_, route := tracing.StartItem(ctx, entryTracer, "dispatch.route", trace.SpanKindInternal)
	tracing.End(route, nil)
	_, wait := tracing.StartItem(ctx, entryTracer, "queue.wait", trace.SpanKindInternal)
	tracing.End(wait, nil)

	callCtx, call := tracing.StartBatch(t.Context(), entryTracer,
		tracing.BatchSpec{Name: "batch.forward", Kind: trace.SpanKindClient, Item: "peer.call", ItemKind: trace.SpanKindClient},
		[]context.Context{ctx})
	parent, state := tracing.Inject(call.Item(0))      // sent with the punch
	batchParent, batchState := tracing.Inject(callCtx) // sent in the request's headers

	rpc := tracing.Extract(t.Context(), batchParent, batchState)
	item, receive := tracing.StartItem(tracing.Extract(rpc, parent, state), homeTracer, "peer.receive", trace.SpanKindServer)
	_, flushed := tracing.StartBatch(t.Context(), homeTracer, write, []context.Context{item})
	flushed.EndItem(0, nil, tracing.Replayed.Bool(false))
	flushed.End(nil)
	tracing.End(receive, nil)

	call.EndItem(0, nil)
	call.End(nil)
	tracing.End(request, nil)
	mustFlush(t, entry, home)

	got, ok := sink.Trace(tracing.TraceID(ctx))
	if !ok {
		t.Fatalf("the punch's trace did not arrive; here is %v", sink.All())
	}
	var tree strings.Builder
	if err := traceview.WriteTree(&tree, got); err != nil {
		t.Fatal(err)
	}
	for child, parent := range map[string]string{
		"dispatch.route": "POST /v1/punches", "queue.wait": "POST /v1/punches", "peer.call": "POST /v1/punches",
		"peer.receive": "peer.call", "punch.commit": "peer.receive",
	} {
		c, _ := got.Span(child)
		if p, _ := got.Span(parent); c.Parent == "" || c.Parent != p.ID {
			t.Errorf("%s is not below %s:\n%s", child, parent, &tree)
		}
	}
	receiving, _ := got.Span("peer.receive")
	if processes := got.Processes(); len(got.Spans) != 6 || len(processes) != 2 || receiving.Process.Instance != "eu-west-b" {
		t.Errorf("want 6 spans in 2 processes, and the spans of the home by eu-west-b:\n%s", &tree)
	}
	if other, ok := sink.Find(func(tr traceview.Trace) bool { return tr.ID == tracing.TraceID(callCtx) }); !ok || other.ID == got.ID {
		t.Errorf("the call's own trace is there: %v, want a trace other than the punch's", ok)
	}
}
