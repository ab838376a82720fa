package monitoring

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// promtool runs Prometheus' checker. Without it nothing would check the rules, so the tests fail.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		if path, err = filepath.Abs("../../.cache/bin/promtool"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal("promtool was not found: run scripts/setup promtool")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestRulesAreRules(t *testing.T) {
	out := promtool(t, "check", "rules", "rules/recording.yaml", "rules/alerts.yaml")
	if !strings.Contains(out, "SUCCESS") {
		t.Error(out)
	}
}

// TestPanelsAsk lets Prometheus check the dashboards' expressions, as if they were recording rules.
func TestPanelsAsk(t *testing.T) {
	type rule struct {
		Record string            `yaml:"record"`
		Expr   string            `yaml:"expr"`
		Labels map[string]string `yaml:"labels"`
	}
	type group struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	}
	expressions, err := Expressions()
	if err != nil {
		t.Fatal(err)
	}
	asked := group{Name: "panels"}
	for _, e := range expressions {
		asked.Rules = append(asked.Rules, rule{Record: "panel", Expr: e.PromQL, Labels: map[string]string{"where": e.Where}})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []group{asked}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", file)
}

type unitTests struct {
	Tests []struct {
		Name   string `yaml:"name"`
		Alerts []struct {
			Name string `yaml:"alertname"`
			Want []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

// TestAlertsFireAndStaySilent runs promtool's tests. Each alert needs a test in which it fires, for each severity, and
// a test in which it stays silent.
func TestAlertsFireAndStaySilent(t *testing.T) {
	files, err := filepath.Glob("rules/tests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: %v", files, err)
	}
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", file)
		})
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tests unitTests
		if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&tests); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range tests.Tests {
			for _, a := range test.Alerts {
				silent[a.Name] = silent[a.Name] || len(a.Want) == 0
				for _, want := range a.Want {
					fires[a.Name+" "+want.Labels["severity"]] = true
				}
			}
		}
	}
	var missing []string
	for _, r := range mustRules(t) {
		if r.Alert == "" {
			continue
		}
		if severity := r.Labels["severity"]; !fires[r.Alert+" "+severity] {
			missing = append(missing, r.Alert+" never fires as a "+severity)
		}
		if !silent[r.Alert] {
			missing = append(missing, r.Alert+" is never silent")
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("the tests in rules/tests lack cases:\n%s", strings.Join(missing, "\n"))
	}
}
