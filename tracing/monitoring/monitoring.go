// Package monitoring holds rules for Prometheus, dashboards for Grafana and a configuration of OpenTelemetry's
// collector. The Go code lets tests compare these files with running nodes. No program contains it.
package monitoring

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Files holds rules/*.yaml, dashboards/*.json and collector/*.yaml.
//
//go:embed rules/*.yaml dashboards/*.json collector/*.yaml
var Files embed.FS

// Expression is a PromQL expression and its place.
type Expression struct {
	Where  string // file, and rule or panel
	PromQL string
}

// Expressions returns the expressions of all rules and dashboards. It replaces Grafana's own variables.
func Expressions() ([]Expression, error) {
	rules, err := Rules()
	if err != nil {
		return nil, err
	}
	var all []Expression
	for _, r := range rules {
		all = append(all, Expression{Where: r.File + ": " + r.Name(), PromQL: r.Expr})
	}
	dashboards, err := Dashboards()
	if err != nil {
		return nil, err
	}
	for file, d := range dashboards {
		all = append(all, d.expressions(file)...)
	}
	return all, nil
}

// Metrics returns the metrics that the expressions need and that no rule records, with the first place of each.
func Metrics() (map[string]string, error) {
	all, err := Expressions()
	if err != nil {
		return nil, err
	}
	rules, err := Rules()
	if err != nil {
		return nil, err
	}
	recorded := make(map[string]bool)
	for _, r := range rules {
		recorded[r.Record] = true
	}
	metrics := make(map[string]string)
	for _, e := range all {
		names, err := e.names()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if _, known := metrics[name]; !known && !recorded[name] {
				metrics[name] = e.Where
			}
		}
	}
	return metrics, nil
}

// Value is a label's value in an expression. An alert for a value that no series has would stay silent for ever.
type Value struct {
	Where, Metric, Label string
	Text                 string // each alternative of a regular expression is a Value of its own
	pattern              *regexp.Regexp
}

// Is reports whether a label's value matches.
func (v Value) Is(value string) bool { return v.pattern.MatchString(value) }

var (
	selectors = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}`)
	selected  = regexp.MustCompile(`(\w+)\s*(=~?)\s*("(?:[^"\\]|\\.)*")`)
)

// Values returns the values that the expressions select with = and =~. For a variable of a dashboard the Value matches
// any text that is not empty: All would hide that there is none.
func Values() (values []Value, err error) {
	all, err := Expressions()
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		for _, s := range selectors.FindAllStringSubmatch(e.PromQL, -1) {
			for _, m := range selected.FindAllStringSubmatch(s[2], -1) {
				text, err := strconv.Unquote(m[3])
				if err != nil {
					return nil, fmt.Errorf("%s: %s: %w", e.Where, m[0], err)
				}
				if strings.Contains(text, "$") {
					text, m[2] = ".+", "=~"
				}
				alternatives := []string{regexp.QuoteMeta(text)}
				if m[2] == "=~" {
					alternatives = strings.Split(text, "|") // no expression of ours has an alternative inside a group
				}
				for _, a := range alternatives {
					pattern, err := regexp.Compile("^(?:" + a + ")$")
					if err != nil {
						return nil, fmt.Errorf("%s: %s: %w", e.Where, m[0], err)
					}
					values = append(values, Value{Where: e.Where, Metric: s[1], Label: m[1], Text: a, pattern: pattern})
				}
			}
		}
	}
	return values, nil
}

// Parts of PromQL that are no metric's name, in the order in which names removes them. Prometheus' own parser would
// bring its database into go.mod. The tests run promtool, which checks the syntax.
var (
	quoted    = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|'(?:[^'\\\\]|\\\\.)*'|`[^`]*`")
	matchers  = regexp.MustCompile(`\{[^}]*\}`)
	ranges    = regexp.MustCompile(`\[[^]]*\]`)
	groupings = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	words     = regexp.MustCompile(`[0-9][\w.]*|[a-zA-Z_:][\w:]*\s*\(?`)
	nameless  = regexp.MustCompile(`(?:^|[^\w:])\s*\{`)
	keywords  = []string{"and", "or", "unless", "bool", "offset", "group_left", "group_right"}
)

// names returns the metrics that an expression selects. It returns an error for a metric selected without a plain
// name, because no test could check it.
func (e Expression) names() (names []string, err error) {
	text := quoted.ReplaceAllString(e.PromQL, "")
	if nameless.MatchString(text) {
		return nil, fmt.Errorf("%s: a metric is selected by no plain name: %s", e.Where, e.PromQL)
	}
	for _, noise := range []*regexp.Regexp{matchers, ranges, groupings} {
		text = noise.ReplaceAllString(text, " ")
	}
	for _, word := range words.FindAllString(text, -1) {
		if number := word[0] >= '0' && word[0] <= '9'; number || strings.HasSuffix(word, "(") {
			continue
		}
		if word = strings.TrimSpace(word); !slices.Contains(keywords, word) {
			names = append(names, word)
		}
	}
	return names, nil
}

// Rule is a recording or an alerting rule.
type Rule struct {
	File        string            `yaml:"-"`
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// Name returns the recorded series or the alert.
func (r Rule) Name() string { return r.Record + r.Alert }

// Rules returns all rules in the order of files and groups.
func Rules() (rules []Rule, err error) {
	err = each("rules", func(file string, content []byte) error {
		var doc struct {
			Groups []struct {
				Rules []Rule `yaml:"rules"`
			} `yaml:"groups"`
		}
		if err := yaml.Unmarshal(content, &doc); err != nil {
			return err
		}
		for _, g := range doc.Groups {
			for _, r := range g.Rules {
				r.File = file
				rules = append(rules, r)
			}
		}
		return nil
	})
	return rules, err
}

// Dashboard is the part of Grafana's model that tests check.
type Dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Links []struct {
		Title, URL string
	} `json:"links"`
	Panels []Panel `json:"panels"`
}

// Variable is a variable that a reader of a dashboard chooses.
type Variable struct {
	Name, Type string
	Definition string `json:"definition"` // label_values(metric, label), or empty
}

// Panel is a panel of a dashboard.
type Panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  struct{ UID string }
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit       string
			Thresholds struct {
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
	}
	Targets []struct{ RefID, Expr, LegendFormat, Interval string }
}

// Dashboards returns all dashboards by file.
func Dashboards() (map[string]Dashboard, error) {
	all := make(map[string]Dashboard)
	err := each("dashboards", func(file string, content []byte) error {
		var d Dashboard
		if err := json.Unmarshal(content, &d); err != nil {
			return err
		}
		all[file] = d
		return nil
	})
	return all, err
}

// variables replaces the variables that Grafana itself replaces before a query.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h")

func (d Dashboard) expressions(file string) (all []Expression) {
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			all = append(all, Expression{Where: file + ": " + p.Title, PromQL: variables.Replace(t.Expr)})
		}
	}
	for _, v := range d.Templating.List {
		if inner, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			selector := inner[:max(0, strings.LastIndex(inner, ","))]
			all = append(all, Expression{Where: file + ": variable " + v.Name, PromQL: selector})
		}
	}
	return all
}

func each(folder string, do func(file string, content []byte) error) error {
	return fs.WalkDir(Files, folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := Files.ReadFile(file)
		if err == nil {
			err = do(file, content)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	})
}
