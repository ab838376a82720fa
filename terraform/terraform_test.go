// Package terraform_test checks the Terraform code as far as that goes without
// an account: format, validity, the resources that the modules would make, their
// order, and the files that machines are started with. Terraform's own tests in
// each module's tests folder use mocked providers. It makes nothing in AWS.
package terraform_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// unavailable is what scripts/aws-provider exits with when no provider can be
// had here.
const unavailable = 3

// provider returns the variables with which terraform finds a provider, or why
// there is none.
var provider = sync.OnceValues(func() ([]string, error) {
	cmd := exec.Command("../scripts/aws-provider")
	var out, why bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &why
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, why.String())
	}
	return strings.Fields(out.String()), nil
})

// workspace is a copy of everything that is needed, in which terraform may leave
// what it likes.
type workspace struct {
	dir string // of the copy of terraform/
	env []string
}

func mustWorkspace(t *testing.T) workspace {
	t.Helper()
	env, err := provider()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == unavailable {
		t.Skipf("NOT CHECKED, no provider hashicorp/aws can be had here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	mustCopy(t, ".", filepath.Join(root, "terraform"))
	mustCopy(t, "../tracing/monitoring", filepath.Join(root, "tracing", "monitoring"))
	return workspace{dir: filepath.Join(root, "terraform"), env: slices.Concat(os.Environ(), env, []string{"TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1"})}
}

// mustCopy copies what terraform reads, and nothing that it left in a folder.
func mustCopy(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case entry.Name() == ".terraform":
			return fs.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case strings.HasPrefix(entry.Name(), ".terraform.lock"), strings.Contains(entry.Name(), ".tfstate"), strings.HasSuffix(name, ".go"):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run returns what terraform prints, and fails the test when it fails.
func (w workspace) run(t *testing.T, folder string, args ...string) string {
	t.Helper()
	out, err := w.try(folder, args...)
	if err != nil {
		t.Fatalf("terraform %s in %s: %v\n%s", strings.Join(args, " "), folder, err, out)
	}
	return out
}

func (w workspace) try(folder string, args ...string) (string, error) {
	cmd := exec.Command("terraform", args...)
	cmd.Dir, cmd.Env = filepath.Join(w.dir, folder), w.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func folders(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern + "/*.tf")
	for i, file := range found {
		found[i] = filepath.Dir(file)
	}
	if found = slices.Compact(found); err != nil || len(found) == 0 {
		t.Fatalf("%s: found %v, %v", pattern, found, err)
	}
	return found
}

func TestEverythingIsFormatted(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("NOT CHECKED, terraform is not on the PATH")
	}
	out, err := exec.Command("terraform", "fmt", "-check", "-recursive", "-diff").CombinedOutput()
	if err != nil {
		t.Errorf("run terraform fmt -recursive terraform: %v\n%s", err, out)
	}
}

func TestEveryFolderIsValid(t *testing.T) {
	t.Parallel()
	w := mustWorkspace(t)
	for _, folder := range folders(t, "live/*") {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			w.run(t, folder, "init", "-backend=false", "-no-color")
			w.run(t, folder, "validate", "-no-color")
		})
	}
}

// event is a line of terraform test -json.
type event struct {
	Type string `json:"type"`
	Run  string `json:"@testrun"`

	TestRun struct {
		Status string `json:"status"`
	} `json:"test_run"`
	Diagnostic struct {
		Summary string `json:"summary"`
		Detail  string `json:"detail"`
	} `json:"diagnostic"`
	State *struct {
		Outputs map[string]struct {
			Value json.RawMessage `json:"value"`
		} `json:"outputs"`
	} `json:"test_state"`
}

// made is what a module's outputs were after one run of its tests.
type made map[string]json.RawMessage

func (m made) mustDecode(t *testing.T, output string, into any) {
	t.Helper()
	if err := json.Unmarshal(m[output], into); err != nil {
		t.Fatalf("output %s: %v: %.200s", output, err, m[output])
	}
}

// testModule runs the module's tests, each as a subtest, and returns the outputs
// after each run that applied.
func testModule(t *testing.T, w workspace, module string) map[string]made {
	t.Helper()
	w.run(t, module, "init", "-backend=false", "-no-color")
	out, err := w.try(module, "test", "-json", "-verbose")
	outputs, diagnostics := make(map[string]made), make(map[string][]string)
	var runs []event
	for line := range strings.Lines(out) {
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			t.Errorf("terraform said %s", line)
			continue
		}
		switch {
		case e.Type == "diagnostic":
			diagnostics[e.Run] = append(diagnostics[e.Run], e.Diagnostic.Summary+": "+e.Diagnostic.Detail)
		case e.Type == "test_run" && e.TestRun.Status != "":
			runs = append(runs, e)
		case e.State != nil:
			outputs[e.Run] = make(made)
			for name, output := range e.State.Outputs {
				outputs[e.Run][name] = output.Value
			}
		}
	}
	for _, e := range runs {
		t.Run(e.Run, func(t *testing.T) {
			if e.TestRun.Status != "pass" {
				t.Errorf("%s: %s", e.TestRun.Status, strings.Join(diagnostics[e.Run], "\n"))
			}
		})
	}
	if err != nil || len(runs) == 0 {
		t.Errorf("terraform test in %s: %v, %d runs\n%s", module, err, len(runs), strings.Join(diagnostics[""], "\n"))
	}
	return outputs
}

func TestModules(t *testing.T) {
	t.Parallel()
	w := mustWorkspace(t)
	for _, module := range folders(t, "modules/*") {
		t.Run(filepath.Base(module), func(t *testing.T) {
			t.Parallel()
			outputs := testModule(t, w, module)
			if check := machines[filepath.Base(module)]; check != nil && !t.Failed() {
				check(t, outputs)
			}
		})
	}
}

// TestARegionIsMadeInOrder follows the dependencies of a whole region: the
// resources that must exist first.
func TestARegionIsMadeInOrder(t *testing.T) {
	t.Parallel()
	w := mustWorkspace(t)
	w.run(t, "modules/region", "init", "-backend=false", "-no-color")
	needs := make(map[string][]string)
	for line := range strings.Lines(w.run(t, "modules/region", "graph")) {
		from, to, edge := strings.Cut(strings.Trim(line, " ;\n"), " -> ")
		if edge {
			needs[strings.Trim(from, `"`)] = append(needs[strings.Trim(from, `"`)], strings.Trim(to, `"`))
		}
	}
	if len(needs) < 20 {
		t.Fatalf("the graph has %d resources that need others", len(needs))
	}
	for _, order := range []struct{ why, first, then string }{
		{"a server starts with its routes", "module.network.aws_route.nat", "module.cockroachdb.aws_instance.server"},
		{"and with those to other regions", "module.network.aws_route.to_peer", "module.cockroachdb.aws_instance.server"},
		{"and back", "module.network.aws_route.from_peer", "module.cockroachdb.aws_instance.server"},
		{"with its ports open", "module.network.aws_vpc_security_group_ingress_rule.open", "module.cockroachdb.aws_instance.server"},
		{"and its disk there", "module.cockroachdb.aws_volume_attachment.data", "module.cockroachdb.aws_ssm_association.setup"},
		{"others find it by name before it is set up", "aws_route53_zone_association.internal", "module.cockroachdb.aws_ssm_association.setup"},
		{"nodes come after the schema and the database's region", "module.cockroachdb.aws_ssm_association.setup", "module.nodes.aws_autoscaling_group.node"},
		{"a node may read its secrets when it starts", "module.nodes.aws_iam_role_policy.node", "module.nodes.aws_autoscaling_group.node"},
		{"the setup may read secrets and claim the cluster", "module.cockroachdb.aws_iam_role_policy.server", "module.cockroachdb.aws_ssm_association.setup"},
		{"and is reached by Systems Manager", "module.cockroachdb.aws_iam_role_policy_attachment.ssm", "module.cockroachdb.aws_ssm_association.setup"},
		{"a collector may read what it starts with", "module.observability.aws_iam_role_policy.collector", "module.observability.aws_autoscaling_group.collector"},
		{"names come after nodes", "module.nodes.aws_autoscaling_group.node", "module.dns.aws_route53_record.general"},
		{"the balancer has its certificate", "module.nodes.aws_acm_certificate_validation.public", "module.nodes.aws_lb_listener.public"},
	} {
		if !reaches(needs, order.then, order.first) {
			t.Errorf("%s: %s does not wait for %s", order.why, order.then, order.first)
		}
	}
	// Made last, the guard is destroyed first: whatever else there is, it waits
	// for, except itself.
	for name := range needs {
		if !strings.Contains(name, "data.") && !reaches(needs, "module.guard.terraform_data.homes", name) {
			t.Errorf("the guard does not wait for %s, which would be destroyed before anybody asked whether homes remain", name)
		}
	}
}

func reaches(needs map[string][]string, from, to string) bool {
	seen := make(map[string]bool)
	var visit func(string) bool
	visit = func(name string) bool {
		if name == to {
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		return slices.ContainsFunc(needs[name], visit)
	}
	return visit(from)
}

// TestAlarmsPointAtWhatIsWritten looks up every section that the modules send an
// operator to.
func TestAlarmsPointAtWhatIsWritten(t *testing.T) {
	files, err := filepath.Glob("modules/*/*.tf")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`([A-Za-z0-9/]+\.md), \\"([^"\\]+)\\"`).FindAllStringSubmatch(string(content), -1) {
			found++
			document, err := os.ReadFile(filepath.Join("..", m[1]))
			if err != nil {
				t.Errorf("%s: %v", file, err)
			} else if !regexp.MustCompile(`(?m)^#+ ` + regexp.QuoteMeta(m[2]) + `$`).Match(document) {
				t.Errorf("%s points at %q in %s, which has no such heading", file, m[2], m[1])
			}
		}
	}
	if found < 3 {
		t.Errorf("found only %d alarms that say where to read on", found)
	}
}
