package traceview

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustTree(t *testing.T, trace Trace) string {
	t.Helper()
	var out strings.Builder
	if err := WriteTree(&out, trace); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func collect(spans ...Span) Trace {
	s := New(DefaultConfig())
	s.add(spans)
	return s.All()[0]
}

func TestWriteTree(t *testing.T) {
	entry, home := Process{Instance: "us-east-a-1", Region: "us-east"}, Process{Instance: "n4", Region: "eu-west"}
	spans := []Span{
		span(1, 1, 0, "POST /v1/punches"), span(1, 2, 1, "dispatch.route"), span(1, 3, 1, "queue.wait"),
		span(1, 4, 1, "peer.call"), span(1, 5, 4, "peer.receive"), span(1, 6, 5, "punch.commit"), span(1, 7, 99, "stray"),
	}
	for i := range spans {
		spans[i].Process = entry
	}
	spans[4].Process, spans[5].Process, spans[6].Process = home, home, Process{Service: "x"}
	spans[0].Attributes = map[string]string{"punchclock.home_region": "eu-west", "punchclock.company": "acme", "http.response.status_code": "201", "host.name": "secret"}
	spans[3].Links = []Link{{TraceID: "feed"}}
	spans[5].Links = make([]Link, 3)
	spans[6].Failed, spans[6].Message = true, "gone\naway"
	want := strings.TrimLeft(`
trace 00000000000000000000000000000001: 7 spans in 3 processes, 8.500 ms
start ms  took ms  span                   process        details
   0.000    2.500  POST /v1/punches       us-east-a-1    company=acme home_region=eu-west http.response.status_code=201
   1.000    2.500  ├─ dispatch.route      us-east-a-1
   2.000    2.500  ├─ queue.wait          us-east-a-1
   3.000    2.500  └─ peer.call           us-east-a-1    -> trace feed
   4.000    2.500     └─ peer.receive     n4 in eu-west
   5.000    2.500        └─ punch.commit  n4 in eu-west  -> 3 spans of other traces
   6.000    2.500  stray                  x              (parent not received) FAILED: gone?away
`, "\n")
	if got := mustTree(t, collect(spans...)); got != want {
		t.Errorf("the tree is\n%s\nwant\n%s", got, want)
	}
	if got := mustTree(t, Trace{ID: "abc"}); got != "trace abc: no spans\n" {
		t.Errorf("a trace without spans is %q", got)
	}
}

func TestTreePrintsEverySpanOnceWhateverTheParents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "spans")
		var spans []Span
		for i := 1; i <= n; i++ { // a parent may be missing, follow later, form a ring, or be the span itself
			spans = append(spans, span(1, i, rapid.IntRange(0, n+1).Draw(t, "parent"), fmt.Sprint(i)))
		}
		trace := collect(spans...)
		seen := make(map[string]bool)
		for _, l := range lines(trace) {
			if seen[l.span.ID] {
				t.Fatalf("span %s is printed twice", l.span.Name)
			}
			seen[l.span.ID] = true
		}
		if len(seen) != n {
			t.Fatalf("%d of %d spans are printed", len(seen), n)
		}
	})
}

func TestTreeOfAbsurdDepthStaysNarrow(t *testing.T) {
	var spans []Span
	for i := 1; i <= 10_000; i++ {
		spans = append(spans, span(1, i, i-1, "deep"))
	}
	if got := mustTree(t, collect(spans...)); len(got) > 10_000*250 {
		t.Errorf("a trace 10,000 deep is printed in %d bytes, which is wide", len(got))
	}
}
