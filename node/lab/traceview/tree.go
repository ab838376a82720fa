package traceview

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

const (
	// maxIndent keeps a very deep trace from filling the screen.
	maxIndent = 24
	// maxCell is the longest text of a span that is printed, in characters.
	maxCell = 100
)

// WriteTree prints a trace, one line for each span. Children stand below their parent in the order of their start. A
// line has the offset from the trace's start, the duration, the process and the most useful attributes. A span whose
// parent has not arrived stands at the left edge and says so.
func WriteTree(w io.Writer, t Trace) error {
	var out strings.Builder
	if len(t.Spans) == 0 {
		fmt.Fprintf(&out, "trace %s: no spans\n", t.ID)
	} else {
		writeTable(&out, t)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func writeTable(out *strings.Builder, t Trace) {
	first, last := t.Spans[0].Start, t.Spans[0].End
	for _, s := range t.Spans {
		if s.End.After(last) {
			last = s.End
		}
	}
	fmt.Fprintf(out, "trace %s: %d spans in %d processes, %s ms\n",
		t.ID, len(t.Spans), len(t.Processes()), millis(max(0, last.Sub(first))))
	var padded strings.Builder
	table := tabwriter.NewWriter(&padded, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "start ms\ttook ms\tspan\tprocess\tdetails")
	for _, l := range lines(t) {
		fmt.Fprintf(table, "%8s\t%7s\t%s%s\t%s\t%s\n",
			millis(l.span.Start.Sub(first)), millis(l.span.Duration()),
			l.indent, clean(l.span.Name), process(l.span.Process), details(l.span, l.orphan))
	}
	_ = table.Flush() // a strings.Builder never fails
	for l := range strings.Lines(padded.String()) {
		fmt.Fprintln(out, strings.TrimRight(l, " \n"))
	}
}

// line is a span at its place in the tree.
type line struct {
	span   Span
	indent string
	orphan bool
}

// lines orders the spans. Each span comes exactly once, whatever parents the spans claim. A ring of parents, which no
// root leads to, begins at its first span.
func lines(t Trace) []line {
	children := make(map[string][]Span)
	known := make(map[string]bool, len(t.Spans))
	for _, s := range t.Spans {
		known[s.ID] = true
	}
	var roots, rest []Span
	for _, s := range t.Spans {
		if !known[s.Parent] {
			roots = append(roots, s)
			continue
		}
		children[s.Parent] = append(children[s.Parent], s)
		rest = append(rest, s)
	}
	printed := make(map[string]bool, len(t.Spans))
	var out []line
	for _, s := range slices.Concat(roots, rest) {
		out = appendSubtree(out, s, children, printed)
	}
	return out
}

func appendSubtree(out []line, root Span, children map[string][]Span, printed map[string]bool) []line {
	type pending struct {
		span   Span
		prefix string // in front of the span's own branch
		depth  int
		last   bool
	}
	stack := []pending{{span: root}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if printed[p.span.ID] {
			continue
		}
		printed[p.span.ID] = true
		below := p.prefix
		l := line{span: p.span, orphan: p.depth == 0 && p.span.Parent != ""}
		if p.depth > 0 && p.depth <= maxIndent {
			branch, under := "├─ ", "│  "
			if p.last {
				branch, under = "└─ ", "   "
			}
			l.indent, below = p.prefix+branch, p.prefix+under
		} else {
			l.indent = p.prefix
		}
		out = append(out, l)
		kids := children[p.span.ID]
		for i, kid := range slices.Backward(kids) {
			stack = append(stack, pending{span: kid, prefix: below, depth: p.depth + 1, last: i == len(kids)-1})
		}
	}
	return out
}

func process(p Process) string {
	name := cmp.Or(p.Instance, p.Service, "unknown")
	if p.Region != "" && !strings.HasPrefix(name, p.Region) {
		name += " in " + p.Region
	}
	return clean(name)
}

const ours = "punchclock."

// telling lists attributes of other libraries that help to read a punch's trace.
var telling = []string{"http.response.status_code", "error.type", "db.operation.name", "server.address"}

func details(s Span, orphan bool) string {
	var parts []string
	if orphan {
		parts = append(parts, "(parent not received)")
	}
	if s.Failed {
		parts = append(parts, "FAILED: "+clean(s.Message))
	}
	for key, value := range s.Attributes {
		if short, ok := strings.CutPrefix(key, ours); ok {
			parts = append(parts, clean(short+"="+value))
		}
	}
	slices.Sort(parts)
	for _, key := range telling {
		if value, ok := s.Attributes[key]; ok {
			parts = append(parts, clean(key+"="+value))
		}
	}
	switch len(s.Links) {
	case 0:
	case 1:
		parts = append(parts, "-> trace "+s.Links[0].TraceID)
	default:
		parts = append(parts, fmt.Sprintf("-> %d spans of other traces", len(s.Links)))
	}
	return strings.Join(parts, " ")
}

// clean makes a span's text safe for a terminal and a table.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxCell {
			b.WriteRune('…')
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// millis formats d in milliseconds with three decimals.
func millis(d time.Duration) string {
	return fmt.Sprintf("%.3f", float64(d)/float64(time.Millisecond))
}
