package drill

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
)

// drillProcess is `punchclock-lab drill` in a process of its own, on the shared cluster.
type drillProcess struct {
	cmd  *exec.Cmd
	dir  string // its folder for results
	text *strings.Builder
}

func mustDrillProcess(t *testing.T, s *target, args ...string) *drillProcess {
	t.Helper()
	p := &drillProcess{dir: t.TempDir(), text: new(strings.Builder)}
	args = append([]string{"drill", "--cluster=" + mustStateFile(t, s), "--rate=60", "--settle=90s", "--out=" + p.dir}, args...)
	p.cmd = exec.CommandContext(testContext(t), s.lab, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.text, p.text
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // like a shell, so that the test can send it a Ctrl-C
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// file waits for a file of the drill and returns its path.
func (p *drillProcess) file(t *testing.T, name string) string {
	t.Helper()
	for ctx := testContext(t); ; {
		found, err := filepath.Glob(filepath.Join(p.dir, "*", name))
		if err == nil && len(found) == 1 {
			return found[0]
		}
		if !cluster.Pause(ctx, 10*time.Millisecond) {
			t.Fatalf("%s: %q, %v", name, found, err)
		}
	}
}

// TestTheLedgerOutlivesTheDrill kills a drill under load. `punchclock-lab audit` must still judge its ledger.
func TestTheLedgerOutlivesTheDrill(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	p := mustDrillProcess(t, s, "kill-node", "--before=1m", "--inject=exit 1", "--heal=exit 1") // the break never begins
	ledger := p.file(t, "ledger.jsonl")
	const enough = 60
	seen := strings.Count(waitForFile(t, ledger, func(text string) bool { return strings.Count(text, `"receipt":`) >= enough }), `"receipt":`)
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // returns that it was killed
	text, err := exec.CommandContext(testContext(t), s.lab, "audit", ledger, "--database-url="+s.state.Database.URL, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var report audit.Report
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	if report.Acknowledged < enough-5 || report.Acknowledged > seen*10 || !report.Clean() { // a few of a hundred punches are sent twice
		t.Errorf("%d receipts were in the ledger before the kill, the audit says:\n%s", seen, &report)
	}
}

// TestAnInterruptedHealIsFinished sends a Ctrl-C while the operator's command heals. The command must not receive it.
// The drill must wait for the command and then publish what it found.
func TestAnInterruptedHealIsFinished(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	node := s.environment.Region(s.state.Regions[1])[0]
	diary := filepath.Join(t.TempDir(), "diary")
	p := mustDrillProcess(t, s, "freeze-node", "--region="+node.Region, "--before=1s", "--during=1s", "--after=1m",
		fmt.Sprintf("--inject=kill -STOP %d", node.PID()),
		fmt.Sprintf(`--heal=exec >>%s; trap "echo heard" INT TERM HUP; echo begun; for i in 1 2 3 4 5; do sleep 0.2; done; kill -CONT %d; echo healed`, diary, node.PID()))
	waitForFile(t, diary, func(text string) bool { return strings.Contains(text, "begun\n") })
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil { // to the whole group, like a terminal
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err == nil {
		t.Errorf("an interrupted drill ended well:\n%s", p.text)
	}
	if text, err := os.ReadFile(diary); err != nil || string(text) != "begun\nhealed\n" {
		t.Errorf("the heal wrote %q, %v", text, err)
	}
	text, err := os.ReadFile(p.file(t, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var o Outcome
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(o.Error, "interrupted") || o.Moments.Healed.IsZero() || o.Ledger == nil || !o.Ledger.Clean() || o.Ledger.Acknowledged == 0 {
		t.Errorf("it says:\n%s", &o)
	}
	if page, err := os.ReadFile(p.file(t, "index.html")); err != nil || !strings.Contains(string(page), "did not come to its end") {
		t.Errorf("the page does not say so: %v", err)
	}
	if !strings.Contains(p.text.String(), "punchclock-lab audit "+p.file(t, "ledger.jsonl")) {
		t.Errorf("it does not say how to audit it by hand:\n%s", p.text)
	}
}
