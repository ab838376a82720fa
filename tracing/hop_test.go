package tracing_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/tracing"
)

// TestOnePunchIsOneTraceOverTwoNodes goes the way of a punch from us-east to
// its home in eu-west, in batches all along.
func TestOnePunchIsOneTraceOverTwoNodes(t *testing.T) {
	sink := startSink(t, nil)
	entry, home := mustSetup(t, "us-east-a", "us-east", io.Discard), mustSetup(t, "eu-west-b", "eu-west", io.Discard)
	entryTracer, homeTracer := entry.TracerProvider.Tracer("test"), home.TracerProvider.Tracer("test")

	ctx, request := entryTracer.Start(t.Context(), "POST /v1/punches", trace.WithSpanKind(trace.SpanKindServer))
	_, route := tracing.StartItem(ctx, entryTracer, "dispatch.route", trace.SpanKindInternal)
	tracing.End(route, nil)
	_, wait := tracing.StartItem(ctx, entryTracer, "lane.wait", trace.SpanKindInternal)
	tracing.End(wait, nil)

	callCtx, call := tracing.StartBatch(t.Context(), entryTracer,
		tracing.Work{Name: "peer.flush", Kind: trace.SpanKindClient, Item: "peer.call", ItemKind: trace.SpanKindClient},
		[]context.Context{ctx})
	parent, state := tracing.Inject(call.Item(0))      // travels with the punch
	batchParent, batchState := tracing.Inject(callCtx) // travels in the request's headers

	rpc := tracing.Extract(t.Context(), batchParent, batchState)
	item, receive := tracing.StartItem(tracing.Extract(rpc, parent, state), homeTracer, "peer.receive", trace.SpanKindServer)
	_, flushed := tracing.StartBatch(t.Context(), homeTracer, flush, []context.Context{item})
	flushed.EndItem(0, nil, tracing.Replayed.Bool(false))
	flushed.End(nil)
	tracing.End(receive, nil)

	call.EndItem(0, nil)
	call.End(nil)
	tracing.End(request, nil)
	if err := errors.Join(entry.Shutdown(t.Context()), home.Shutdown(t.Context())); err != nil {
		t.Fatal(err)
	}

	got, ok := sink.Trace(tracing.TraceID(ctx))
	if !ok {
		t.Fatalf("the punch's trace did not arrive; here is %v", sink.All())
	}
	var tree strings.Builder
	if err := traceview.WriteTree(&tree, got); err != nil {
		t.Fatal(err)
	}
	for child, parent := range map[string]string{
		"dispatch.route": "POST /v1/punches", "lane.wait": "POST /v1/punches", "peer.call": "POST /v1/punches",
		"peer.receive": "peer.call", "punch.commit": "peer.receive",
	} {
		c, _ := got.Span(child)
		if p, _ := got.Span(parent); c.Parent == "" || c.Parent != p.ID {
			t.Errorf("%s is not below %s:\n%s", child, parent, &tree)
		}
	}
	receiving, _ := got.Span("peer.receive")
	if processes := got.Processes(); len(got.Spans) != 6 || len(processes) != 2 || receiving.Process.Instance != "eu-west-b" {
		t.Errorf("want 6 spans in 2 processes, the home's by eu-west-b:\n%s", &tree)
	}
	if other, ok := sink.Find(func(tr traceview.Trace) bool { return tr.ID == tracing.TraceID(callCtx) }); !ok || other.ID == got.ID {
		t.Errorf("the call's own trace is there: %v, want one apart from the punch's", ok)
	}
}
