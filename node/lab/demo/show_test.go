package demo

import (
	"errors"
	"testing"

	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/lab/load"
	"github.com/punchclock/punchclock/node/lab/traceview"
)

// crossing is the complete trace of a punch that entered in us-east and has its home in eu-west.
func crossing() traceview.Trace {
	here, there := traceview.Process{Region: "us-east"}, traceview.Process{Region: "eu-west"}
	return traceview.Trace{Spans: []traceview.Span{
		{ID: "1", Name: "POST /v1/punches", Process: here, Attributes: map[string]string{"punchclock.home_region": "eu-west", "punchclock.replayed": "false"}},
		{ID: "2", Parent: "1", Name: "peer.call", Process: here},
		{ID: "3", Parent: "2", Name: "peer.receive", Process: there},
		{ID: "4", Parent: "3", Name: "punch.commit", Process: there},
	}}
}

func TestCrossed(t *testing.T) {
	if !crossed(crossing()) {
		t.Error("a complete trace over two regions is not recognised")
	}
	for name, change := range map[string]func(*traceview.Trace){
		"nothing":               func(tr *traceview.Trace) { tr.Spans = nil },
		"no root yet":           func(tr *traceview.Trace) { tr.Spans = tr.Spans[1:] },
		"no commit yet":         func(tr *traceview.Trace) { tr.Spans = tr.Spans[:3] },
		"a gap":                 func(tr *traceview.Trace) { tr.Spans = append(tr.Spans[:2], tr.Spans[3]) },
		"at home":               func(tr *traceview.Trace) { tr.Spans[0].Process.Region = "eu-west" },
		"refused":               func(tr *traceview.Trace) { delete(tr.Spans[0].Attributes, "punchclock.home_region") },
		"replayed":              func(tr *traceview.Trace) { tr.Spans[0].Attributes["punchclock.replayed"] = "true" },
		"another request":       func(tr *traceview.Trace) { tr.Spans[0].Name = "POST /v1/punches/batch" },
		"committed from afar":   func(tr *traceview.Trace) { tr.Spans[3].Process.Region = "us-east" },
		"part of another trace": func(tr *traceview.Trace) { tr.Spans[0].Parent = "0" },
		"no commit, but a wait": func(tr *traceview.Trace) { tr.Spans[3].Name = "queue.wait" },
	} {
		tr := crossing()
		change(&tr)
		if crossed(tr) {
			t.Errorf("%s: taken for the complete trace of a punch that crossed regions", name)
		}
	}
}

func TestVerdict(t *testing.T) {
	good := func() (load.Result, audit.Report) {
		return load.Result{Counts: load.Counts{Sent: 3, Acknowledged: 2, Unresolved: 1}}, audit.Report{Sent: 3, Acknowledged: 2}
	}
	result, report := good()
	if err := verdict(&result, &report); err != nil {
		t.Errorf("all is accounted for: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*load.Result, *audit.Report)
		want   error
	}{
		"lost":           {func(_ *load.Result, r *audit.Report) { r.Lost = 1 }, audit.ErrNotClean},
		"dropped":        {func(r *load.Result, _ *audit.Report) { r.Dropped = 1 }, load.ErrVoid},
		"no receipt":     {func(r *load.Result, p *audit.Report) { r.Acknowledged, p.Acknowledged = 0, 0 }, audit.ErrNoEvidence},
		"other receipts": {func(r *load.Result, _ *audit.Report) { r.Acknowledged = 3 }, nil},
		"refused":        {func(r *load.Result, _ *audit.Report) { r.Refused = 1 }, nil},
		"repeated wrong": {func(r *load.Result, _ *audit.Report) { r.RepeatsWrong = 1 }, nil},
	} {
		result, report := good()
		c.change(&result, &report)
		if err := verdict(&result, &report); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
}
