package traceview

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// maxListed traces fill a screen. The id of an older trace is in its receipt.
const maxListed = 40

// list serves GET /traces: the newest traces whose first span has arrived, one line each. ?name= filters by a part of
// the name, ?min= by the duration.
func (s *Sink) list(w http.ResponseWriter, r *http.Request) {
	name, least := r.FormValue("name"), time.Duration(0)
	if text := r.FormValue("min"); text != "" {
		var err error
		if least, err = time.ParseDuration(text); err != nil {
			http.Error(w, "min must be a duration, such as 50ms", http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "trace\tbegan\ttook ms\tspans\tprocesses\tname")
	listed := 0
	for _, t := range slices.Backward(s.All()) {
		root := slices.IndexFunc(t.Spans, func(s Span) bool { return s.Parent == "" })
		if root < 0 || !strings.Contains(t.Spans[root].Name, name) || t.Spans[root].Duration() < least {
			continue
		}
		if listed++; listed > maxListed {
			break
		}
		span := t.Spans[root]
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%s\n", t.ID, span.Start.Format(time.TimeOnly), millis(span.Duration()),
			len(t.Spans), len(t.Processes()), clean(span.Name))
	}
	_ = table.Flush() // the reader may be gone
}

// show serves GET /traces/{id}: one trace as a tree.
func (s *Sink) show(w http.ResponseWriter, r *http.Request) {
	t, ok := s.Trace(strings.ToLower(r.PathValue("id")))
	if !ok {
		http.Error(w, "no such trace is here: its spans are still on their way, it was not sampled, or newer ones took its place", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = WriteTree(w, t) // the reader may be gone
}
