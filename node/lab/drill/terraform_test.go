package drill

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// mustLocal returns the folder terraform/local, and skips the test without Terraform.
func mustLocal(t *testing.T) string {
	t.Helper()
	local := localFolder(t)
	if err := checkTerraform(local); err != nil {
		t.Skip(err)
	}
	return local
}

func localFolder(t *testing.T) string {
	t.Helper()
	local, err := filepath.Abs("../../../terraform/local")
	if err != nil {
		t.Fatal(err)
	}
	return local
}

// TestTerraformLocalIsSound formats and validates the configuration and runs its own tests. It starts no node.
func TestTerraformLocalIsSound(t *testing.T) {
	s := &target{local: mustLocal(t), victim: "eu-west"}
	s.env = []string{"TF_DATA_DIR=" + t.TempDir(), "TF_WORKSPACE=eu-west", "TF_INPUT=0", "CHECKPOINT_DISABLE=1"}
	for _, command := range []string{"fmt -check -recursive -diff", "init", "validate", "test"} {
		if out, err := runTerraform(t, s, command); err != nil {
			t.Errorf("terraform %s: %v\n%s", command, err, out)
		}
	}
}

// runTerraform runs one command of Terraform and returns its output.
func runTerraform(t *testing.T, s *target, command string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), "terraform", append([]string{"-chdir=" + s.local}, strings.Fields(command)...)...)
	cmd.Env = append(append(os.Environ(), s.env...), "TF_CLI_ARGS=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustTerraform returns the shared cluster with a region whose nodes Terraform runs. After the test they return to the
// cluster.
func mustTerraform(t *testing.T) *target {
	t.Helper()
	local := mustLocal(t)
	s := *mustTarget(t, mustEngine(t))
	s.local, s.victim, s.say = local, s.state.Regions[1], func(string, ...any) {}
	t.Cleanup(func() {
		if out, err := runTerraform(t, &s, "destroy -auto-approve -var region="+s.victim); err != nil {
			t.Errorf("destroy: %v\n%s", err, out)
		}
		if err := errors.Join(restartRegion(testContext(t), &s), s.control.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := s.handOver(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return &s
}

// TestTerraformLocal holds that apply leaves correct nodes alone, replaces changed nodes one at a time and starts a
// dead node. It must not mistake another region's state for this region's.
func TestTerraformLocal(t *testing.T) {
	s := mustTerraform(t)
	region := " -var region=" + s.victim
	if out, err := runTerraform(t, s, "plan -detailed-exitcode"+region); err != nil { // status 2 means that there is something to do
		t.Errorf("a second apply would not be idle: %v\n%s", err, out)
	}
	if out, err := runTerraform(t, s, "destroy -auto-approve -var region="+s.state.Regions[0]); err == nil || !strings.Contains(out, "has its state in the workspace") {
		t.Errorf("destroying %s in the workspace of %s: %v\n%s", s.state.Regions[0], s.victim, err, out)
	}

	before := processesOf(t, s)
	if len(before) != 2 {
		t.Fatalf("%d processes run, expected 2: %v", len(before), before)
	}
	watch := watchRegion(t, s)
	if out, err := runTerraform(t, s, "apply -auto-approve -var settings={log-level=\"warn\"}"+region); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if least := watch(); least < 1 {
		t.Errorf("%d nodes of the region were ready at some moment while they were replaced, expected 1 at least", least)
	}
	replaced := processesOf(t, s)
	if len(replaced) != 2 || slices.ContainsFunc(replaced, func(pid int) bool { return slices.Contains(before, pid) }) {
		t.Errorf("processes %v after %v; expected two others, as their settings changed", replaced, before)
	}

	if err := syscall.Kill(replaced[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitCrash(t, s)
	out, err := runTerraform(t, s, "apply -auto-approve -var settings={log-level=\"warn\"}"+region)
	if err != nil || !strings.Contains(out, "had ended by itself: signal: killed") || !strings.Contains(out, "runs already") {
		t.Errorf("apply after a node was killed: %v\n%s", err, out)
	}
	healed := processesOf(t, s)
	if len(healed) != 2 || slices.Contains(healed, replaced[0]) || !slices.Contains(healed, replaced[1]) {
		t.Errorf("processes %v after %d of %v was killed; expected one other", healed, replaced[0], replaced)
	}

	if out, err := runTerraform(t, s, "destroy -auto-approve"+region); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if left := processesOf(t, s); len(left) > 0 {
		t.Errorf("processes %v outlive the destroy", left)
	}
}

// TestTerraformWholeRegion adds a fourth region with its part of the database to a running cluster. It removes the
// region again, which is refused until the region is empty.
func TestTerraformWholeRegion(t *testing.T) {
	if mustEngine(t) != cluster.Cockroach {
		t.Skip("NOT CHECKED, there is no CockroachDB here: only it has a server in each region")
	}
	s := *mustTarget(t, cluster.Cockroach)
	s.local, s.victim, s.say = mustLocal(t), "sa-east", func(string, ...any) {}
	if err := s.useTerraform(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.control.Close(); err != nil {
			t.Error(err)
		}
	})
	mustTerraform := func(command string, says ...string) {
		t.Helper()
		out, err := runTerraform(t, &s, command+" -var region=sa-east -var with_database=true")
		if err != nil {
			t.Fatalf("terraform %s: %v\n%s", command, err, out)
		}
		wantSaid(t, out, says...)
	}
	mustOperate := func(args ...string) string {
		t.Helper()
		out, err := s.operate(testContext(t), args...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	file := s.environment.Path("cluster.json")
	lab := func(args ...string) (string, error) {
		out, err := exec.CommandContext(testContext(t), s.lab, append(args, "--cluster", file)...).CombinedOutput()
		return string(out), err
	}
	mustLab := func(args ...string) string {
		t.Helper()
		out, err := lab(args...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}

	mustTerraform("apply -auto-approve", "cockroach-sa-east is ready", "region sa-east was added", "sa-east-n2 is ready", "5 added")
	mustTerraform("plan -detailed-exitcode", "No changes") // status 2 means that there is something to do
	company := s.state.Companies[0]
	mustOperate("company", "move", company.ID, "--to", "sa-east")
	out, err := runTerraform(t, &s, "destroy -auto-approve -var region=sa-east")
	if err == nil || len(processesOf(t, &s)) != 2 {
		t.Fatalf("a home is there, and it was destroyed, or begun with: %v\n%s", err, out)
	}
	wantSaid(t, out, "companies with their home here: 1")

	if err := switchRegion("evacuate")(testContext(t), &s); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, mustLab("nodes", "start", "sa-east"), "sa-east-n1 runs already", "sa-east-n2 runs already")
	mustOperate("region", "move-homes", "sa-east", "--to", company.Home)
	if out, err := lab("database", "stop", "sa-east"); err == nil {
		t.Fatalf("the server was stopped before its nodes: %s", out)
	}
	mustOperate("region", "remove", "sa-east")
	mustTerraform("destroy -auto-approve", "sa-east-n1 is gone", "cockroach-sa-east is decommissioned", "5 destroyed")

	state, err := cluster.ReadState(file)
	if err != nil || !slices.Equal(state.Regions, s.state.Regions) || len(state.Nodes) != len(s.state.Nodes) || len(state.Database.Hosts) != 3 {
		t.Errorf("the cluster's file tells of %v, %d nodes, %+v, %v", state.Regions, len(state.Nodes), state.Database.Hosts, err)
	}
	for _, region := range s.state.Regions { // Terraform may not stop these
		wantSaid(t, mustLab("database", "stop", region), "stays")
		if !s.environment.Database.Running(region) {
			t.Errorf("the cluster's own server in %s is gone", region)
		}
	}
}

func wantSaid(t *testing.T, said string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("the output has no %q:\n%s", w, said)
		}
	}
}

// processesOf returns the process ids of the victim's nodes.
func processesOf(t *testing.T, s *target) (pids []int) {
	t.Helper()
	for _, n := range s.nodes() {
		if n.Running() {
			pids = append(pids, n.PID())
		}
	}
	slices.Sort(pids)
	return pids
}

// awaitCrash returns when the cluster's file says that a node ended by itself.
func awaitCrash(t *testing.T, s *target) {
	t.Helper()
	for ctx := testContext(t); ; cluster.Pause(ctx, 20*time.Millisecond) {
		state, err := cluster.ReadState(s.environment.Path("cluster.json"))
		if err == nil && slices.ContainsFunc(state.Nodes, func(n cluster.NodeState) bool { return n.Region == s.victim && n.Crashes > 0 }) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the killed node is not in the file: %v", err)
		}
	}
}

// watchRegion counts the victim's ready nodes until the returned function is called, which returns the smallest count.
func watchRegion(t *testing.T, s *target) (least func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	few := len(s.nodes())
	var watching sync.WaitGroup
	watching.Go(func() {
		for cluster.Pause(ctx, 20*time.Millisecond) {
			n, err := readyNodes(ctx, s)
			if err == nil {
				few = min(few, n)
			}
		}
	})
	return func() int {
		cancel()
		watching.Wait()
		return few
	}
}

func readyNodes(ctx context.Context, s *target) (n int, err error) {
	asks := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: watchTimeout}
	for _, node := range s.nodes() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, node.OpsURL+"/readyz", nil)
		if err != nil {
			return 0, err
		}
		resp, err := asks.Do(req)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			continue // the node does not run
		}
		if err := resp.Body.Close(); err != nil {
			return 0, err
		}
		if resp.StatusCode == http.StatusOK {
			n++
		}
	}
	return n, nil
}

// TestTerraformIsMissing holds that the drill names the missing Terraform.
func TestTerraformIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c := &Command{Name: "terraform-region", Terraform: localFolder(t), Rate: testRate, Out: t.TempDir()}
	var out strings.Builder
	err := c.Run(testContext(t), &out)
	if !errors.Is(err, ErrSkipped) {
		t.Errorf("got %v, want %v", err, ErrSkipped)
	}
	if !strings.Contains(out.String(), "SKIPPED  terraform-region: needs Terraform on the PATH") {
		t.Errorf("it says:\n%s", &out)
	}
}
