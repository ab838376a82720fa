package demo

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/lab/load"
	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/tracing"
)

// spansWithin bounds the wait for the last spans of a trace. Nodes send spans every half second, and later on a busy
// machine.
const spansWithin = 15 * time.Second

// crossingTrace returns the complete trace of a punch that entered outside its home. Of all such traces it chooses the
// one of median duration.
func crossingTrace(ctx context.Context, sink *traceview.Server) (traceview.Trace, error) {
	ctx, cancel := context.WithTimeout(ctx, spansWithin)
	defer cancel()
	if _, err := sink.WaitFor(ctx, crossed); err != nil {
		return traceview.Trace{}, fmt.Errorf("the trace of a punch that crossed regions: %w", err)
	}
	whole := slices.DeleteFunc(sink.All(), func(t traceview.Trace) bool { return !crossed(t) })
	took := func(t traceview.Trace) time.Duration {
		root, _ := entrySpan(t)
		return root.Duration()
	}
	slices.SortFunc(whole, func(a, b traceview.Trace) int { return cmp.Compare(took(a), took(b)) })
	return whole[len(whole)/2], nil
}

// entrySpan returns the span of the punch's request.
func entrySpan(t traceview.Trace) (traceview.Span, bool) {
	root, ok := t.Span("POST /v1/punches")
	return root, ok && root.Parent == ""
}

// crossed reports whether a trace is complete and belongs to a new punch that crossed regions. A complete trace has its
// root, the commit in the home region, and the parent of every span.
func crossed(t traceview.Trace) bool {
	root, ok := entrySpan(t)
	home := root.Attributes[string(tracing.HomeRegion)]
	if !ok || home == "" || home == root.Process.Region || root.Attributes[string(tracing.Replayed)] == "true" {
		return false
	}
	known := make(map[string]bool)
	for _, s := range t.Spans {
		known[s.ID] = true
	}
	committed := false
	for _, s := range t.Spans {
		if s.Parent != "" && !known[s.Parent] {
			return false
		}
		committed = committed || (s.Name == "punch.commit" && s.Process.Region == home)
	}
	return committed
}

// summary writes the outcome of the demo.
func summary(out io.Writer, st *cluster.Environment, result *load.Result, report *audit.Report, t traceview.Trace) error {
	var b strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) } // a Builder never fails
	state := st.State()
	switch db := state.Database; db.Engine {
	case cluster.Postgres:
		line("\nengine  PostgreSQL %s, one process for all regions;", db.Version)
		line("        it cannot lose a database region, CockroachDB can (name its binary in COCKROACH_BINARY)")
	default:
		line("\nengine  CockroachDB %s, %d processes, one per region", db.Version, len(db.Hosts))
	}
	line("nodes   %d processes in %s; %d companies\n", len(state.Nodes), strings.Join(state.Regions, ", "), len(st.Companies))
	line("One of %d punches that entered in another region than their home:", report.Crossed)
	if err := traceview.WriteTree(&b, t); err != nil {
		return err
	}
	line("\nThe rush, by entry region; latencies count from the moment at which a punch was due:")
	line("%s", result)
	line("The audit, which compared the ledger of all requests and receipts with the rows:")
	b.WriteString(report.String())
	_, err := io.WriteString(out, b.String())
	return err
}
