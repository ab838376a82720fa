package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"gopkg.in/yaml.v3"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/traceview"
	"github.com/punchclock/punchclock/tracing"
)

// collectorConfig is the part of the collector's configuration that a test can check without a collector.
type collectorConfig struct {
	Receivers, Processors, Exporters map[string]any
	Service                          struct {
		Pipelines map[string]struct{ Receivers, Processors, Exporters []string }
	}
}

func mustCollector(t *testing.T, file string) (c collectorConfig) {
	t.Helper()
	text, err := Files.ReadFile("collector/" + file)
	if err == nil {
		err = yaml.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, used := range regexp.MustCompile(`\$\{[^}]*\}`).FindAllString(string(text), -1) {
		if !regexp.MustCompile(`^\$\{env:PUNCHCLOCK_[A-Z_]+:-[^}]+\}$`).MatchString(used) {
			t.Errorf("%s: %s is not an environment variable of ours with a default", file, used)
		}
	}
	return c
}

func TestCollectorPipelines(t *testing.T) {
	base, added := mustCollector(t, "collector.yaml"), mustCollector(t, "metrics.yaml")
	for file, c := range map[string]collectorConfig{"collector.yaml": base, "metrics.yaml": added} {
		for name, p := range c.Service.Pipelines {
			if len(p.Processors) < 2 || p.Processors[0] != "memory_limiter" || p.Processors[len(p.Processors)-1] != "batch" {
				t.Errorf("%s: the processors of %s are %v; memory_limiter comes first, batch last", file, name, p.Processors)
			}
			for _, r := range p.Receivers {
				if c.Receivers[r] == nil {
					t.Errorf("%s: %s receives from %s, which does not exist", file, name, r)
				}
			}
			for _, r := range p.Processors {
				if base.Processors[r] == nil { // the collector reads metrics.yaml on top of collector.yaml
					t.Errorf("%s: %s has the processor %s, which does not exist", file, name, r)
				}
			}
			for _, e := range p.Exporters {
				e = strings.TrimSuffix(strings.TrimPrefix(e, "${env:PUNCHCLOCK_TRACE_EXPORTER:-"), "}")
				if c.Exporters[e] == nil {
					t.Errorf("%s: %s exports to %s, which does not exist", file, name, e)
				}
			}
		}
	}
	if !slices.Contains(base.Service.Pipelines["traces"].Processors, "tail_sampling") {
		t.Error("traces are not sampled")
	}
}

// TestCollectorKeepsTheDatabaseMetricsInUse compares the list in metrics.yaml with rules and dashboards.
// Otherwise a metric that the collector drops would be missed only when its alert is needed.
func TestCollectorKeepsTheDatabaseMetricsInUse(t *testing.T) {
	text, err := Files.ReadFile("collector/metrics.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Receivers struct {
			Prometheus struct {
				Config struct {
					Scrapes []struct {
						Job  string                           `yaml:"job_name"`
						List []struct{ Regex, Action string } `yaml:"metric_relabel_configs"`
					} `yaml:"scrape_configs"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	jobs := make(map[string]*regexp.Regexp)
	for _, s := range doc.Receivers.Prometheus.Config.Scrapes {
		jobs[s.Job] = nil
		for _, l := range s.List {
			jobs[s.Job] = regexp.MustCompile("^(?:" + l.Regex + ")$")
		}
	}
	kept := jobs["cockroachdb"]
	if _, ok := jobs["punchclock"]; !ok || kept == nil {
		t.Fatalf("the jobs are %v; the rules know punchclock and cockroachdb", slices.Collect(maps.Keys(jobs)))
	}
	named, err := Metrics()
	if err != nil {
		t.Fatal(err)
	}
	ofNodes := regexp.MustCompile(`^(punchclock|http_server|pgxpool|db_client|go|process|target)_|^up$`)
	asked := 0
	for name, where := range named {
		if ofNodes.MatchString(name) {
			continue
		}
		if asked++; !kept.MatchString(name) {
			t.Errorf("%s uses %s, which the collector drops", where, name)
		}
	}
	if asked < 10 {
		t.Errorf("rules and dashboards use only %d metrics of the database", asked)
	}
}

// otelcol returns the collector that `make collector` builds.
func otelcol(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("../../.cache/bin/otelcol-*")
	if err != nil || len(found) == 0 {
		t.Skip("otelcol is not built here: make collector")
	}
	path, err := filepath.Abs(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCollectorTakesItsConfiguration validates our configuration and the part that Terraform adds in AWS.
func TestCollectorTakesItsConfiguration(t *testing.T) {
	binary := otelcol(t)
	template, err := os.ReadFile("../../terraform/modules/observability/files/aws.yaml.tftpl")
	if err != nil {
		t.Fatal(err)
	}
	aws := filepath.Join(t.TempDir(), "aws.yaml")
	if err := os.WriteFile(aws, []byte(strings.NewReplacer("${region}", "eu-west-1", "${deployment}", "punchclock").Replace(string(template))), 0o600); err != nil {
		t.Fatal(err)
	}
	for exporter, files := range map[string][]string{
		"debug":     {"collector/collector.yaml"},
		"otlp_http": {"collector/collector.yaml", "collector/metrics.yaml"},
		"nop":       {"collector/collector.yaml", "collector/metrics.yaml", aws},
	} {
		args := []string{"validate"}
		for _, file := range files {
			args = append(args, "--config="+file)
		}
		cmd := exec.CommandContext(t.Context(), binary, args...)
		// The signing extension needs credentials. It sends nothing here.
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true", "PUNCHCLOCK_TRACE_EXPORTER="+exporter)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestDeployedCollectorIsTheTestedOne compares versions, because names and settings change from release to release.
func TestDeployedCollectorIsTheTestedOne(t *testing.T) {
	var built struct{ Dist struct{ Version string } }
	var deployed struct {
		Release struct{ Collector struct{ Version string } }
	}
	text, err1 := Files.ReadFile("collector/builder.yaml")
	live, err2 := os.ReadFile("../../terraform/live/deployment.json")
	if err := errors.Join(err1, err2, yaml.Unmarshal(text, &built), json.Unmarshal(live, &deployed)); err != nil {
		t.Fatal(err)
	}
	if got, want := deployed.Release.Collector.Version, "v"+built.Dist.Version; got != want {
		t.Errorf("terraform/live/deployment.json has the collector %q, the tests use %q", got, want)
	}
}

// TestCollectorSamples sends traces as a node does. A tenth of the quick traces must arrive. A slow trace, a failed
// trace and a trace of a final refusal must all arrive.
func TestCollectorSamples(t *testing.T) {
	binary := otelcol(t)
	const quick = 2000
	sink, err := traceview.Start("127.0.0.1:0", traceview.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close(context.Background()) }) // the test sends nothing any more
	url := startCollector(t, binary, sink.URL)
	for name, value := range map[string]string{
		"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "50",
	} {
		t.Setenv(name, value)
	}
	node, err := tracing.Setup(t.Context(), tracing.Config{Service: "punchclock", Node: "n1", Region: "eu-west", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	tracer, now := node.TracerProvider.Tracer("test"), time.Now()
	request := func(took time.Duration, status codes.Code, attrs ...attribute.KeyValue) string {
		_, span := tracer.Start(t.Context(), "POST /v1/punches", trace.WithTimestamp(now.Add(-took)), trace.WithAttributes(attrs...))
		span.SetStatus(status, "")
		span.End(trace.WithTimestamp(now))
		return span.SpanContext().TraceID().String()
	}
	for range quick {
		request(900*time.Millisecond, codes.Unset)
	}
	want := map[string]string{
		"slow":    request(1100*time.Millisecond, codes.Unset),
		"failed":  request(time.Millisecond, codes.Error),
		"refused": request(time.Millisecond, codes.Unset, tracing.Code.String("conflict")),
	}
	if err := node.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for what, id := range want {
		if _, err := sink.WaitFor(ctx, func(tr traceview.Trace) bool { return tr.ID == id }); err != nil {
			t.Errorf("the trace %s, which was %s, does not arrive: %v", id, what, err)
		}
	}
	// The collector decided on the others before, but they may be under way. The tolerance is six standard deviations
	// of 13.
	n, _, _ := sink.Len()
	for ; n < quick/10-80 && ctx.Err() == nil; n, _, _ = sink.Len() {
		time.Sleep(50 * time.Millisecond) // poll
	}
	if n < quick/10-80 || n > quick/10+80 {
		t.Errorf("%d of %d quick traces arrived, want about a tenth", n-len(want), quick)
	}
}

// startCollector runs the collector with our configuration, on free addresses, with a larger share of ordinary traces
// and a short wait. It returns the collector's URL.
func startCollector(t *testing.T, binary, sink string) string {
	t.Helper()
	addrs, err := cluster.FreeAddrs(4)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addrs[3])
	log, err := os.Create(filepath.Join(t.TempDir(), "otelcol.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config=collector/collector.yaml")
	cmd.Env = append(os.Environ(), "PUNCHCLOCK_COLLECTOR_HEALTH="+addrs[0], "PUNCHCLOCK_COLLECTOR_GRPC="+addrs[1], "PUNCHCLOCK_COLLECTOR_HTTP="+addrs[2],
		"PUNCHCLOCK_COLLECTOR_METRICS_PORT="+port, "PUNCHCLOCK_TRACE_ENDPOINT="+sink, "PUNCHCLOCK_TRACE_SHARE=10", "PUNCHCLOCK_TRACE_DECISION_WAIT=1s")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait())
		if text, readErr := os.ReadFile(log.Name()); err != nil || t.Failed() {
			t.Logf("otelcol: %v\n%s%v", err, text, readErr)
		}
	})
	health := fmt.Sprintf("http://%s/", addrs[0])
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // poll
		res, err := http.Get(health)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body) // only the status counts
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return "http://" + addrs[2]
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the collector is not up: %v", err)
		}
	}
}
