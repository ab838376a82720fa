package monitoring

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func mustRules(t *testing.T) []Rule {
	t.Helper()
	rules, err := Rules()
	if err != nil || len(rules) == 0 {
		t.Fatalf("%d rules: %v", len(rules), err)
	}
	return rules
}

// sections returns a document's text by the anchors that GitHub makes of its headings.
func sections(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found, anchor := make(map[string]string), ""
	for line := range strings.Lines(string(text)) {
		level := len(line) - len(strings.TrimLeft(line, "#"))
		heading, ok := strings.CutPrefix(line[level:], " ")
		if level == 0 || !ok {
			found[anchor] += line
			continue
		}
		anchor = strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			default:
				return -1
			}
		}, strings.TrimSpace(heading))
		found[anchor] += "\n" // the anchor exists even if its section is empty
	}
	return found
}

const runbook = "https://github.com/punchclock/punchclock/blob/main/RUNBOOK.md#"

func TestAlertsSayWhatIsWrongAndWhatToDo(t *testing.T) {
	says := sections(t, "../../RUNBOOK.md")
	pages := 0
	for _, r := range mustRules(t) {
		if r.Alert == "" {
			continue
		}
		switch r.Labels["severity"] {
		case "page":
			pages++
		case "ticket":
		default:
			t.Errorf("%s: the severity is %q, want page or ticket", r.Alert, r.Labels["severity"])
		}
		for _, name := range []string{"summary", "description"} {
			if r.Annotations[name] == "" {
				t.Errorf("%s has no %s", r.Alert, name)
			}
		}
		if text := r.Annotations["description"]; !strings.ContainsFunc(text, unicode.IsDigit) {
			t.Errorf("%s: no number in its description %q", r.Alert, text)
		}
		anchor, ok := strings.CutPrefix(r.Annotations["runbook_url"], runbook)
		text := says[anchor]
		if !ok || text == "" {
			t.Errorf("%s: runbook_url %q leads to no heading of RUNBOOK.md", r.Alert, r.Annotations["runbook_url"])
		}
		parts := []string{"**Means.**", "**Check.**", "**Fix.**"}
		if r.Labels["severity"] == "page" {
			parts = append(parts, "**Escalate.**")
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s: its section in RUNBOOK.md has no %s", r.Alert, part)
			}
		}
	}
	if pages == 0 {
		t.Error("no alert is a page")
	}
}

func TestRecordedNamesAreDefinedOnceAndUsed(t *testing.T) {
	expressions, err := Expressions()
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for _, e := range expressions {
		names, err := e.names()
		if err != nil {
			t.Error(err)
		}
		for _, name := range names {
			used[name] = true
		}
	}
	recorded := make(map[string]bool)
	for _, r := range mustRules(t) {
		if r.Record == "" {
			continue
		}
		if recorded[r.Record] {
			t.Errorf("%s is recorded twice", r.Record)
		}
		recorded[r.Record] = true
		if !used[r.Record] {
			t.Errorf("%s is recorded, but no rule and no panel uses it", r.Record)
		}
	}
	for name := range used {
		if strings.Contains(name, ":") && !recorded[name] {
			t.Errorf("%s is used, but no rule records it", name)
		}
	}
}

func TestMetricsAreFoundInExpressions(t *testing.T) {
	for text, want := range map[string][]string{
		`sum by (a) (rate(one{b="two"}[5m])) / on () max_over_time(three[1h:1m] offset 5m)`:              {"one", "three"},
		`absent(four{a="}", b='{'}) or label_replace(five, "x", "$1", "y", "(.*)") > bool 1e-4`:          {"four", "five"},
		`six and seven unless on (eight) nine:ten * on (a) group_left (b) sum (eleven) without (twelve)`: {"six", "seven", "nine:ten", "eleven"},
		"`thirteen` == 2h or -fourteen^2": {"fourteen"},
	} {
		if got, err := (Expression{PromQL: text}).names(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s names %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`{__name__=~"one.*"}`, `sum({job="x"})`, `one or {a="b"}`} {
		if got, err := (Expression{PromQL: text}).names(); err == nil {
			t.Errorf("%s is accepted, with the names %v", text, got)
		}
	}
}

// grafanaUnits lists the units in use. Grafana shows a misspelt unit as plain text.
var grafanaUnits = []string{"short", "none", "s", "ns", "reqps", "cps", "bytes", "percentunit"}

func TestDashboards(t *testing.T) {
	dashboards, err := Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(dashboards)), []string{"dashboards/database.json", "dashboards/node.json", "dashboards/region.json", "dashboards/rush.json"}; !slices.Equal(got, want) {
		t.Fatalf("the dashboards are %v, want %v", got, want)
	}
	uids := make(map[string]bool)
	for file, d := range dashboards {
		if d.SchemaVersion < 41 || d.Title == "" || d.UID == "" || uids[d.UID] {
			t.Errorf("%s: schema %d, title %q, uid %q: want schema 41 or newer, a title and a unique uid", file, d.SchemaVersion, d.Title, d.UID)
		}
		uids[d.UID] = true
		known := []string{"__rate_interval", "__range"}
		for _, v := range d.Templating.List {
			known = append(known, v.Name)
		}
		if !slices.Contains(known, "datasource") || !slices.Contains(known, "traces") {
			t.Errorf("%s: its variables %v lack datasource or traces", file, known)
		}
		if !slices.ContainsFunc(d.Links, func(l struct{ Title, URL string }) bool { return strings.Contains(l.URL, "${traces}") }) {
			t.Errorf("%s has no link to the traces", file)
		}
		if len(d.Panels) < 6 || len(d.Panels) > 16 {
			t.Errorf("%s has %d panels; want 6 to 16", file, len(d.Panels))
		}
		for i, p := range d.Panels {
			checkPanel(t, file, p, known)
			for _, other := range d.Panels[:i] {
				a, b := p.GridPos, other.GridPos
				if p.ID == other.ID || a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s: %q and %q share an id or a place", file, p.Title, other.Title)
				}
			}
		}
	}
}

var variable = regexp.MustCompile(`\$\{?(\w+)`)

func checkPanel(t *testing.T, file string, p Panel, known []string) {
	t.Helper()
	where := file + ": " + p.Title
	if p.Title == "" || len(p.Description) < 20 {
		t.Errorf("%s: the description %q is too short", where, p.Description)
	}
	if p.Datasource.UID != "${datasource}" {
		t.Errorf("%s reads from %q, not from the chosen data source", where, p.Datasource.UID)
	}
	if !slices.Contains(grafanaUnits, p.FieldConfig.Defaults.Unit) {
		t.Errorf("%s has the unit %q", where, p.FieldConfig.Defaults.Unit)
	}
	if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.X+g.W > 24 {
		t.Errorf("%s does not fit the grid of 24 columns: %+v", where, g)
	}
	steps := p.FieldConfig.Defaults.Thresholds.Steps
	if len(steps) == 0 || steps[0].Value != nil || p.Type == "stat" && len(steps) < 2 && p.FieldConfig.Defaults.Unit != "reqps" {
		t.Errorf("%s has no thresholds that tell good from bad: %v", where, steps)
	}
	if len(p.Targets) == 0 {
		t.Errorf("%s shows nothing", where)
	}
	for _, target := range p.Targets {
		// Grafana's $__rate_interval holds four scrapes of the panel's interval. The database is scraped half as often
		// as the nodes, and a rate needs more than two samples.
		ofDatabase := strings.Contains(target.Expr, `instance=~"$db"`)
		if ofDatabase && strings.Contains(target.Expr, "$__rate_interval") && target.Interval != "30s" {
			t.Errorf("%s has a rate of the database in steps of %q, want the scrape interval of 30s", where, target.Interval)
		}
		for _, used := range variable.FindAllStringSubmatch(target.Expr, -1) {
			if !slices.Contains(known, used[1]) {
				t.Errorf("%s uses $%s, which the dashboard does not have", where, used[1])
			}
		}
	}
}
