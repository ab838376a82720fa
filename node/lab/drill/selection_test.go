package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// testRate keeps nine pairs of home and entry busy and leaves the machine to the other processes.
const testRate = 60

// newRun returns a run of a scenario on a cluster that runs. It neither waits for recovery nor limits its time: `make
// drill` does so on an idle machine, and these tests must pass on a busy machine.
func newRun(t *testing.T, sc Scenario, s *target) *run {
	t.Helper()
	c := &Command{Rate: testRate}
	sc.Bounds = Bounds{}
	return &run{scenario: sc, target: s, load: c.load(&sc), ledger: newLedgerPath(t)}
}

// mustPass runs a scenario. Its ledger must be clean, and every home must have been served.
func mustPass(t *testing.T, sc Scenario, s *target) Outcome {
	t.Helper()
	o, err := newRun(t, sc, s).execute(testContext(t))
	if err == nil {
		err = o.Verdict()
	}
	if err != nil {
		t.Errorf("%v\n%s", err, &o)
	}
	return o
}

// stage is one scenario of a selection.
type stage struct {
	name   string
	missed bool // the break ends when other nodes miss a node
}

// selection names the scenarios that `make test` plays. `make drill` plays all of them.
func selection(engine string) []stage {
	steps := []stage{{"kill-node", true}, {"freeze-node", true}, {"wrong-clock", true}, {"rolling-restart", false}, {"evacuate-region", false}}
	if engine == cluster.Cockroach {
		return append(steps, stage{"kill-region-with-database", true})
	}
	return append(steps, stage{"kill-region", true})
}

// TestSelection plays some scenarios in turn on one cluster, under one load and with one ledger. After each break it
// waits until the cluster has noticed, and after each heal until the cluster is whole. Some devices can reach the broken
// region alone: they keep punches on disk while its nodes are dead.
func TestSelection(t *testing.T) {
	engine := mustEngine(t)
	s := mustTarget(t, engine)
	if err := s.environment.Database.WaitReplicated(testContext(t)); err != nil { // a region may die only after all replicas exist
		t.Fatal(err)
	}
	sc := Scenario{
		Name: "selection", About: "several scenarios in turn", Before: time.Second, After: time.Second, offlineDevices: true,
		inject: func(ctx context.Context, s *target) error {
			for _, step := range selection(engine) {
				began := time.Now()
				if err := playStep(ctx, t, step, s); err != nil {
					return fmt.Errorf("%s: %w", step.name, err)
				}
				t.Logf("%s took %s", step.name, time.Since(began).Round(100*time.Millisecond))
			}
			return nil
		},
		heal: restartRegion,
	}
	o := mustPass(t, sc, s)
	t.Logf("%d punches failed%s", o.Failed, codes(o.Codes))
	if o.Outboxes == nil || o.Outboxes.Kept == 0 || o.Outboxes.Flushed != o.Outboxes.Kept {
		t.Errorf("devices that reach %s alone kept punches while it was dead, and flushed them later: %+v", s.victim, o.Outboxes)
	}
}

func playStep(ctx context.Context, t *testing.T, step stage, s *target) error {
	sc := mustFind(t, step.name)
	if step.name == "rolling-restart" {
		sc.inject = rollingRestart((*target).nodes) // one region is enough here
	}
	broke := sc.inject(ctx, s)
	if broke == nil && step.missed {
		broke = s.missed(ctx)
	}
	if sc.heal != nil {
		broke = errors.Join(broke, sc.heal(context.WithoutCancel(ctx), s))
	}
	return errors.Join(broke, s.whole(ctx))
}

// TestABrokenClusterIsHealed holds that the drill heals after a break that failed halfway.
func TestABrokenClusterIsHealed(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	sc := mustFind(t, "kill-node")
	sc.Before, sc.During, sc.After = time.Second, time.Second, time.Second
	inject, reason := sc.inject, errors.New("could not do all of it")
	sc.inject = func(ctx context.Context, s *target) error { return errors.Join(inject(ctx, s), reason) }
	o, err := newRun(t, sc, s).execute(testContext(t))
	if !errors.Is(err, reason) {
		t.Fatalf("got %v, want the failure of the break", err)
	}
	if err := o.Verdict(); !errors.Is(err, ErrUnfinished) || !strings.Contains(o.String(), reason.Error()) {
		t.Errorf("its verdict is %v, and it says:\n%s", err, &o)
	}
	if o.Ledger == nil || !o.Ledger.Clean() || o.Ledger.Sent == 0 {
		t.Errorf("what was sent until then: %+v", o.Ledger)
	}
	for _, n := range s.nodes() {
		if !n.Running() {
			t.Errorf("%s is still dead", n.Name)
		}
	}
}

func mustFind(t *testing.T, name string) Scenario {
	t.Helper()
	sc, ok := find(name)
	if !ok {
		t.Fatalf("no scenario %s", name)
	}
	return sc
}

// TestPointedAtARunningCluster breaks a cluster that the drill did not start, with an operator's commands.
func TestPointedAtARunningCluster(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	file, out := mustStateFile(t, s), t.TempDir()
	told := filepath.Join(t.TempDir(), "told")
	c := &Command{
		Name: "freeze-node", Setup: cluster.Setup{Binary: mustBinary(t)}, Cluster: file, Region: s.state.Regions[1], Rate: testRate, Settle: time.Minute, Out: out,
		Before: time.Second, During: time.Second, After: time.Second,
		Inject: fmt.Sprintf(`echo "$PUNCHCLOCK_LAB_DRILL_REGION" >%s && kill -STOP %d`, told, s.environment.Region(s.state.Regions[1])[0].PID()),
		Heal:   fmt.Sprintf("kill -CONT %d", s.environment.Region(s.state.Regions[1])[0].PID()),
	}
	var summary strings.Builder
	if err := c.Run(testContext(t), &summary); err != nil && !errors.Is(err, ErrBound) { // the machine may be busy
		t.Fatal(err)
	}
	if text, err := os.ReadFile(told); err != nil || strings.TrimSpace(string(text)) != s.state.Regions[1] {
		t.Errorf("the command was told of region %q, %v", text, err)
	}
	dirs, err := filepath.Glob(filepath.Join(out, "*-freeze-node"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("folders %q, %v", dirs, err)
	}
	for _, name := range []string{"ledger.jsonl", "result.json", "index.html"} {
		if info, err := os.Stat(filepath.Join(dirs[0], name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.Inject, c.Heal = "", ""
	if err := c.Run(testContext(t), &summary); err == nil || !strings.Contains(err.Error(), "--inject and --heal") {
		t.Errorf("without a way to break it: %v", err)
	}
	if rest, err := filepath.Glob(filepath.Join(out, "*")); err != nil || len(rest) != 1 {
		t.Errorf("a drill that did not begin left %q, %v", rest, err)
	}
}

// TestSaysWhatItCannotPlay holds that a scenario that cannot run here is reported as skipped. Asked for by name, it is
// an error with a status of its own.
func TestSaysWhatItCannotPlay(t *testing.T) {
	if !slices.Contains(mustEngines(t), cluster.Postgres) {
		t.Skip("no PostgreSQL here")
	}
	c := &Command{Name: "kill-region-with-database", Setup: cluster.Setup{Engine: cluster.Postgres}, Rate: testRate, Out: t.TempDir()}
	var out strings.Builder
	err := c.Run(testContext(t), &out)
	if !errors.Is(err, ErrSkipped) {
		t.Errorf("got %v, want %v", err, ErrSkipped)
	}
	if !strings.Contains(out.String(), "SKIPPED  kill-region-with-database: needs CockroachDB") {
		t.Errorf("it says:\n%s", &out)
	}
	if left, err := filepath.Glob(filepath.Join(c.Out, "*")); err != nil || len(left) > 0 {
		t.Errorf("it left %q, %v", left, err)
	}
	c.Name = "kill-everything"
	if err := c.Run(testContext(t), &out); err == nil {
		t.Error("played a scenario that does not exist")
	}
}
