package node_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/node/punch"
)

// TestOnePunchOneTrace follows a punch that enters in another region than its home. Its one trace covers two processes,
// from the request to the commit.
func TestOnePunchOneTrace(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "ap-south")
		entry := w.cluster.Region("us-east")[0]
		warm := post(t, entry, token(t, company), body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"})
		wantStatus(t, warm, http.StatusCreated, "") // from here on the company's home is in memory
		a := post(t, entry, token(t, company), body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"})
		wantStatus(t, a, http.StatusCreated, "")
		id := a.body["trace_id"].(string)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		trace, err := shared.sink.WaitFor(ctx, func(tr traceview.Trace) bool {
			return tr.ID == id && len(tr.Named("queue.wait")) == 2 && len(tr.Named("peer.receive")) == 1 && len(tr.Named("POST /v1/punches")) == 1
		})
		if err != nil {
			t.Fatal(err)
		}
		var tree strings.Builder
		if err := traceview.WriteTree(&tree, trace); err != nil {
			t.Fatal(err)
		}
		t.Logf("\n%s", tree.String())
		if n := len(trace.Processes()); n != 2 {
			t.Errorf("the trace has %d processes, want 2", n)
		}
		checkSpans(t, trace)
		checkCommit(t, trace, company)
	})
}

// checkSpans compares each span's parent and region with the expected tree.
func checkSpans(t *testing.T, trace traceview.Trace) {
	t.Helper()
	byID := make(map[string]traceview.Span)
	for _, s := range trace.Spans {
		byID[s.ID] = s
	}
	got := make(map[string]bool)
	for _, s := range trace.Spans {
		got[fmt.Sprintf("%s < %s @ %s", s.Name, byID[s.Parent].Name, s.Process.Region)] = true
	}
	for _, want := range []string{
		"POST /v1/punches <  @ us-east",
		"dispatch.route < POST /v1/punches @ us-east",
		"queue.wait < POST /v1/punches @ us-east",
		"peer.call < POST /v1/punches @ us-east",
		"peer.receive < peer.call @ ap-south",
		"queue.wait < peer.receive @ ap-south",
		"punch.commit < peer.receive @ ap-south",
	} {
		if !got[want] {
			t.Errorf("the trace has no %q; it has %v", want, got)
		}
	}
	if _, in := trace.Span("batch.write"); in {
		t.Error("the batch is in the punch's trace; it should only be linked")
	}
}

func checkCommit(t *testing.T, trace traceview.Trace, company string) {
	t.Helper()
	route, _ := trace.Span("dispatch.route")
	for key, want := range map[string]string{
		"punchclock.home_region": "ap-south", "punchclock.entry_region": "us-east", "punchclock.company": company,
		"punchclock.candidate.region": "ap-south", "punchclock.candidate.local": "false",
	} {
		if got := route.Attributes[key]; got != want {
			t.Errorf("dispatch.route has %s %q, want %q", key, got, want)
		}
	}
	commit, _ := trace.Span("punch.commit")
	if commit.Attributes["punchclock.batch.size"] == "" || commit.Attributes["punchclock.replayed"] != "false" || len(commit.Links) != 1 {
		t.Errorf("punch.commit has %v and links %v", commit.Attributes, commit.Links)
		return
	}
	// The batch is a trace of its own with the SQL. The punch's trace links to it, and is not its child.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := shared.sink.WaitFor(ctx, func(tr traceview.Trace) bool {
		if tr.ID != commit.Links[0].TraceID {
			return false
		}
		sql := false
		for _, s := range tr.Spans {
			sql = sql || strings.Contains(s.Name, "INSERT")
		}
		_, flush := tr.Span("batch.write")
		return flush && sql
	}); err != nil {
		t.Errorf("the batch that is linked from punch.commit: %v", err)
	}
}

func TestTheCallerDoesNotDecideOnSampling(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "us-east")
		n := w.cluster.Region("us-east")[0]
		theirs := strings.Repeat("ab", 16)
		req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, n.PublicURL+"/v1/regions", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token(t, company))
		req.Header.Set("Traceparent", "00-"+theirs+"-"+strings.Repeat("cd", 8)+"-00")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		trace, err := shared.sink.WaitFor(ctx, func(tr traceview.Trace) bool {
			return len(tr.Spans) > 0 && len(tr.Spans[0].Links) == 1 && tr.Spans[0].Links[0].TraceID == theirs
		})
		if err != nil {
			t.Fatalf("an unsampled caller's request is not recorded as a trace of our own: %v", err)
		}
		if trace.ID == theirs {
			t.Error("the caller's trace was continued")
		}
	})
}

func TestMetricsAreThere(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "ap-south")
		n := w.cluster.Region("us-east")[1]
		for range 3 {
			post(t, n, token(t, company), body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"})
		}
		for _, m := range []struct {
			name   string
			labels []string
			least  float64
		}{
			{"punchclock_http_requests_total", []string{`http_request_method="POST",http_route="/v1/punches"`}, 3},
			{"punchclock_dispatch_routed_total", []string{`home_region="ap-south"`}, 3},
			{"punchclock_peer_forwarded_total", []string{`target_region="ap-south"`, `result="done"`}, 3},
			{"punchclock_queue_wait_duration_seconds_count", []string{`home_region="ap-south"`, `kind="peer"`}, 3},
			{"punchclock_batch_size_count", []string{`home_region="ap-south"`}, 1},
			{"punchclock_batch_write_duration_seconds_count", []string{`home_region="ap-south"`}, 1},
			{"punchclock_directory_lookups_total", nil, 3},
			{"punchclock_directory_companies", nil, 1},
			{"punchclock_gossip_members", nil, 6},
			{"punchclock_node_ready", []string{`cloud_region="us-east"`}, 1},
			{"punchclock_region_nodes", []string{`region="ap-south"`, `state="ready"`}, 2},
		} {
			if got := metricOf(t, n, m.name, m.labels...); got < m.least {
				t.Errorf("%s%v is %v, want at least %v", m.name, m.labels, got, m.least)
			}
		}
	})
}
