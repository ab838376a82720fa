package node_test

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing/monitoring"
)

// seldom are label values that a quiet cluster does not show.
var seldom = map[string]string{
	// A histogram has no series before its first event.
	"outcome gone": "callers that left before they had their answer",
}

// TestRulesAndPanelsNameExistingMetrics compares the rules and panels with the nodes' and the database's metrics after
// some punches. Every metric and label value in a rule or panel must exist.
func TestRulesAndPanelsNameExistingMetrics(t *testing.T) {
	named, err := monitoring.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	values, err := monitoring.Values()
	if err != nil {
		t.Fatal(err)
	}
	onEveryEngine(t, func(t *testing.T, w *world) {
		w.punchInEveryWay(t)
		there := make(metrics)
		byScraper := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
		there.add("up", []*dto.LabelPair{byScraper("job", "punchclock"), byScraper("job", "cockroachdb")})
		for _, n := range w.cluster.Nodes() {
			there.scrape(t, n.OpsURL+"/metrics", byScraper("instance", n.Name))
		}
		if w.store.Engine == crdb.CockroachDB { // which does not tell its region
			there.scrape(t, w.console(t)+"/_status/vars", byScraper("instance", "db"), byScraper("cloud_region", "us-east"))
		}
		for _, name := range slices.Sorted(maps.Keys(named)) {
			here := w.store.Engine == crdb.CockroachDB || strings.HasPrefix(name, "punchclock_")
			if here && there[name] == nil {
				t.Errorf("%s: nothing shows a metric %s", named[name], name)
			}
		}
		for _, v := range values {
			if there[v.Metric] != nil && seldom[v.Label+" "+v.Text] == "" && !there.has(v) {
				t.Errorf("%s: no %s has a %s that is %s, but %v", v.Where, v.Metric, v.Label, v.Text, slices.Sorted(maps.Keys(there[v.Metric][v.Label])))
			}
		}
	})
}

// punchInEveryWay sends punches that are stored by the entry node or another region, that are repeated, and that are
// refused.
func (w *world) punchInEveryWay(t *testing.T) {
	t.Helper()
	for _, home := range regions {
		tok := token(t, w.company(t, home))
		for _, n := range w.cluster.Nodes() {
			in := body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"}
			wantStatus(t, post(t, n, tok, in), http.StatusCreated, "")
			wantStatus(t, post(t, n, tok, in), http.StatusOK, "")
		}
	}
	n := w.cluster.Nodes()[0]
	wantStatus(t, post(t, n, token(t, w.company(t, "us-east")), body{"employee": "anna", "kind": "in"}), http.StatusBadRequest, "invalid")
}

// console returns the base URL of CockroachDB's metrics.
func (w *world) console(t *testing.T) (url string) {
	t.Helper()
	conn, err := w.db.Acquire(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(testContext(t), `SET allow_unsafe_internals = on`); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(testContext(t), `SELECT value FROM crdb_internal.node_runtime_info WHERE component = 'UI' AND field = 'URL'`).Scan(&url); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(url, "/")
}

// metrics has the values of each label of each metric. A histogram has the three names of its series.
type metrics map[string]map[string]map[string]bool

func (m metrics) scrape(t *testing.T, url string, added ...*dto.LabelPair) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // names of metrics on loopback are no secret
	}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %s, %v", url, res.Status, err)
	}
	for name, family := range families {
		for _, series := range family.GetMetric() {
			series.Label = append(series.Label, added...)
			if family.GetType() != dto.MetricType_HISTOGRAM {
				m.add(name, series.GetLabel())
				continue
			}
			m.add(name+"_sum", series.GetLabel())
			m.add(name+"_count", series.GetLabel())
			for _, b := range series.GetHistogram().GetBucket() {
				le, bound := "le", fmt.Sprint(b.GetUpperBound())
				m.add(name+"_bucket", append(slices.Clip(series.GetLabel()), &dto.LabelPair{Name: &le, Value: &bound}))
			}
		}
	}
}

func (m metrics) add(name string, labels []*dto.LabelPair) {
	if m[name] == nil {
		m[name] = make(map[string]map[string]bool)
	}
	for _, l := range labels {
		if m[name][l.GetName()] == nil {
			m[name][l.GetName()] = make(map[string]bool)
		}
		m[name][l.GetName()][l.GetValue()] = true
	}
}

func (m metrics) has(v monitoring.Value) bool {
	for value := range m[v.Metric][v.Label] {
		if v.Is(value) {
			return true
		}
	}
	return false
}
