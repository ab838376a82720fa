package punchclock_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const metricsPage = "docs/metrics.md"

var writePages = flag.Bool("write", false, "write generated pages instead of comparing them")

// instrument is one metric, as the code creates it.
type instrument struct{ name, kind, unit, description string }

// TestMetricsPageIsComplete holds docs/metrics.md: one row for each metric that the product creates. After a change run
// go test -run MetricsPage . -write
func TestMetricsPageIsComplete(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Metrics of a node\n\nGenerated from the code: `go test -run MetricsPage . -write`. In Prometheus a dot is `_`, and the unit\n" +
		"and `_total` of a counter follow the name.\n\n| Metric | Kind | Unit | Meaning |\n|---|---|---|---|\n")
	for _, i := range instruments(t) {
		if i.description == "" || i.unit == "" {
			t.Errorf("the metric %s needs a unit and a description", i.name)
		}
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", i.name, i.kind, i.unit, i.description)
	}
	if *writePages {
		if err := os.WriteFile(metricsPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(metricsPage); err != nil || string(got) != page.String() {
		t.Errorf("%s is not what the code creates (%v). Run: go test -run MetricsPage . -write", metricsPage, err)
	}
}

// instruments returns the metrics of all product packages by name.
func instruments(t *testing.T) (list []instrument) {
	for _, f := range sources(t) {
		if f.test || f.generated || strings.HasPrefix(f.pkg, "node/lab") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if i := newInstrument(call); i.name != "" {
					list = append(list, i)
				}
			}
			return true
		})
	}
	slices.SortFunc(list, func(a, b instrument) int { return cmp.Compare(a.name, b.name) })
	if len(list) < 20 {
		t.Fatalf("found only %d metrics in the code", len(list))
	}
	return list
}

// newInstrument reads a call such as meter.Int64Counter("punchclock.x", metric.WithUnit("s")). It returns an empty
// name for any other call.
func newInstrument(call *ast.CallExpr) (i instrument) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) < 2 {
		return i
	}
	for suffix, kind := range map[string]string{"Counter": "counter", "Histogram": "histogram", "Gauge": "gauge"} {
		if strings.HasSuffix(method.Sel.Name, suffix) && !strings.HasSuffix(method.Sel.Name, "UpDownCounter") {
			i.kind = kind
		}
	}
	name := text(call.Args[0])
	if i.kind == "" || !strings.Contains(name, ".") {
		return instrument{}
	}
	i.name = name
	for _, arg := range call.Args[1:] {
		option, ok := arg.(*ast.CallExpr)
		if !ok || len(option.Args) == 0 {
			continue
		}
		switch fn, ok := option.Fun.(*ast.SelectorExpr); {
		case ok && fn.Sel.Name == "WithUnit":
			i.unit = text(option.Args[0])
		case ok && fn.Sel.Name == "WithDescription":
			i.description = text(option.Args[0])
		}
	}
	return i
}

// text returns the value of a string literal, "" for anything else.
func text(e ast.Expr) string {
	literal, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, err := strconv.Unquote(literal.Value)
	if err != nil {
		return ""
	}
	return s
}
