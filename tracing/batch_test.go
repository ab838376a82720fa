package tracing_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/tracing"
)

var write = tracing.BatchSpec{Name: "batch.write", Item: "punch.commit", ItemKind: trace.SpanKindClient}

// requests starts n requests and returns their contexts. Every third request is not sampled, whatever the sampler
// decides.
func requests(t *testing.T, tracer trace.Tracer, n int) (items []context.Context, sampled int) {
	t.Helper()
	for i := range n {
		var ctx context.Context
		if i%3 == 2 {
			ctx = trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID{1, byte(i), byte(i >> 8)}, SpanID: trace.SpanID{1},
			}))
		} else {
			var span trace.Span
			ctx, span = tracer.Start(t.Context(), "request", trace.WithNewRoot())
			defer span.End()
			sampled++
		}
		items = append(items, ctx)
	}
	return items, sampled
}

func TestBatchIsLinkedWithEverySampledItemBothWays(t *testing.T) {
	sink := startSink(t, nil)
	tel := mustSetup(t, "n1", "us-east", io.Discard)
	tracer := tel.TracerProvider.Tracer("test")
	items, sampled := requests(t, tracer, 512)

	ctx, batch := tracing.StartBatch(t.Context(), tracer, write, items)
	_, sql := tracer.Start(ctx, "INSERT")
	sql.End()
	batch.EndItem(1, errors.New("poison"), tracing.Company.String("acme"))
	batch.EndItem(2, nil, tracing.Replayed.Bool(true)) // not sampled, so nothing happens
	for i := range items {
		batch.EndItem(i, nil)
	}
	batch.End(nil)
	mustFlush(t, tel)

	root, err := sink.WaitFor(t.Context(), func(tr traceview.Trace) bool { _, ok := tr.Span("batch.write"); return ok })
	if err != nil {
		t.Fatal(err)
	}
	work, _ := root.Span("batch.write")
	if len(root.Spans) != 2 || work.Parent != "" || root.Spans[1].Parent != work.ID {
		t.Errorf("the batch's trace is %+v, want a root batch.write with INSERT below it", root.Spans)
	}
	if len(work.Links) != sampled {
		t.Errorf("the batch has %d links, want one to each of %d sampled items", len(work.Links), sampled)
	}
	for i, ctx := range items {
		sc := trace.SpanContextFromContext(ctx)
		own, ok := sink.Trace(sc.TraceID().String())
		if ok != sc.IsSampled() {
			t.Fatalf("item %d is recorded: %v, want %v", i, ok, sc.IsSampled())
		}
		if !ok {
			continue
		}
		commit, _ := own.Span("punch.commit")
		if commit.Parent != sc.SpanID().String() || commit.Kind != "client" || commit.Attributes["punchclock.batch.size"] != "512" {
			t.Errorf("item %d: punch.commit is %+v, want a client span below the request with the batch's size", i, commit)
		}
		if len(commit.Links) != 1 || commit.Links[0] != (traceview.Link{TraceID: root.ID, SpanID: work.ID}) {
			t.Errorf("item %d links to %v, want the batch", i, commit.Links)
		}
		if failed := i == 1; commit.Failed != failed || (failed && commit.Attributes["punchclock.company"] != "acme") {
			t.Errorf("item %d: failed is %v with %v, want %v", i, commit.Failed, commit.Attributes, failed)
		}
	}
}

func TestBatchIsSampledExactlyWhenAnItemIs(t *testing.T) {
	for _, sampler := range []string{"always_on", "always_off", "parentbased_always_off"} {
		t.Run(sampler, func(t *testing.T) {
			startSink(t, map[string]string{"OTEL_TRACES_SAMPLER": sampler})
			tracer := mustSetup(t, "n1", "us-east", io.Discard).TracerProvider.Tracer("test")
			with := func(flags trace.TraceFlags) []context.Context {
				return []context.Context{t.Context(), trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(
					trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags}))}
			}
			for _, want := range []bool{true, false} {
				var flags trace.TraceFlags
				ctx, batch := tracing.StartBatch(t.Context(), tracer, write, with(flags.WithSampled(want)))
				if got := tracing.Sampled(ctx); got != want {
					t.Errorf("a batch with a sampled item %v is sampled %v", want, got)
				}
				if ctx == batch.Item(0) || batch.Item(0) != t.Context() {
					t.Error("an item without a span does not have its own context")
				}
				batch.End(nil)
			}
		})
	}
}

func TestBatchEndsTheRemainingItems(t *testing.T) {
	sink := startSink(t, nil)
	tel := mustSetup(t, "n1", "us-east", io.Discard)
	tracer := tel.TracerProvider.Tracer("test")
	items, _ := requests(t, tracer, 2)
	_, batch := tracing.StartBatch(t.Context(), tracer, write, items)
	batch.EndItem(0, nil)
	batch.End(errors.New("the database is gone"))
	mustFlush(t, tel)
	for i, failed := range []bool{false, true} {
		own, _ := sink.Trace(tracing.TraceID(items[i]))
		if commit, ok := own.Span("punch.commit"); !ok || commit.Failed != failed {
			t.Errorf("item %d ended %v with failed %v, want failed %v", i, ok, commit.Failed, failed)
		}
	}
}

func TestLinksOfOneRequestAreShared(t *testing.T) {
	at := func(trc, span byte, flags trace.TraceFlags) context.Context {
		return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{trc}, SpanID: trace.SpanID{span}, TraceFlags: flags}))
	}
	links := tracing.Links([]context.Context{
		at(1, 1, 1), at(1, 1, 1), at(1, 2, 1), t.Context(), at(2, 2, 0), at(2, 2, 1), at(1, 2, 1),
	})
	var got [][2]byte
	for _, l := range links {
		got = append(got, [2]byte{l.SpanContext.TraceID()[0], l.SpanContext.SpanID()[0]})
	}
	want := [][2]byte{{1, 1}, {1, 2}, {2, 2}, {1, 2}}
	if len(got) != len(want) {
		t.Fatalf("links are %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("links are %v, want %v", got, want)
		}
	}
}

func TestUnsampledItemsCostNothing(t *testing.T) {
	setenv(t, nil)
	tracer := mustSetup(t, "n1", "us-east", io.Discard).TracerProvider.Tracer("test")
	ctx, _ := tracer.Start(t.Context(), "request")
	items := []context.Context{ctx, ctx}
	_, batch := tracing.StartBatch(t.Context(), tracer, write, items)
	defer batch.End(nil)
	for name, f := range map[string]func(){
		"StartItem": func() {
			item, span := tracing.StartItem(ctx, tracer, "queue.wait", trace.SpanKindInternal)
			if item != ctx {
				t.Error("StartItem changed the context of an item that is not sampled")
			}
			tracing.End(span, nil)
		},
		"Links":   func() { _ = tracing.Links(items) },
		"EndItem": func() { batch.EndItem(1, nil, tracing.Replayed.Bool(true), tracing.Attempt.Int(1)) },
		"Item":    func() { _ = batch.Item(1) },
	} {
		allocs := testing.AllocsPerRun(100, f)
		for range 10 { // AllocsPerRun also counts the allocations of other goroutines
			allocs = min(allocs, testing.AllocsPerRun(100, f))
		}
		if allocs != 0 {
			t.Errorf("%s allocates %v times for an item that is not sampled, want 0", name, allocs)
		}
	}
}

func TestStartItemNeverStartsATrace(t *testing.T) {
	startSink(t, map[string]string{"OTEL_TRACES_SAMPLER": "always_on"})
	tracer := mustSetup(t, "n1", "us-east", io.Discard).TracerProvider.Tracer("test")
	ctx, span := tracing.StartItem(tracing.Extract(t.Context(), "", ""), tracer, "peer.receive", trace.SpanKindServer)
	if span.IsRecording() || tracing.TraceID(ctx) != "" {
		t.Errorf("an item without a trace got %s", tracing.TraceID(ctx))
	}
}

func BenchmarkStartBatch(b *testing.B) {
	b.Run("unsampled", func(b *testing.B) { benchmarkBatch(b, 0) })
	b.Run("one of 512 sampled", func(b *testing.B) { benchmarkBatch(b, 1) })
}

func benchmarkBatch(b *testing.B, sampled int) {
	b.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	b.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	tel, err := tracing.Setup(b.Context(), tracing.Config{Log: discard()})
	if err != nil {
		b.Fatal(err)
	}
	defer tel.Shutdown(context.Background()) //nolint:errcheck // no collector listens
	tracer := tel.TracerProvider.Tracer("bench")
	items := make([]context.Context, 512)
	for i := range items {
		var flags trace.TraceFlags
		items[i] = trace.ContextWithSpanContext(b.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1, byte(i)}, SpanID: trace.SpanID{1}, TraceFlags: flags.WithSampled(i < sampled)}))
	}
	b.ReportAllocs()
	for b.Loop() {
		_, batch := tracing.StartBatch(b.Context(), tracer, write, items)
		for i := range items {
			batch.EndItem(i, nil, tracing.Attempt.Int(1))
		}
		batch.End(nil)
	}
}
