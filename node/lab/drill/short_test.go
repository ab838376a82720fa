package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// short makes a scenario brief, and its bounds loose: the tests of other
// packages run on the same machine. `make drill` holds it to what is stated.
func short(sc Scenario) Scenario {
	sc.Before, sc.After = 2*time.Second, 2*time.Second
	switch sc.Name {
	case "kill-region", "kill-node", "freeze-node":
		sc.During = 9 * time.Second // so that what fails over only when it is healed breaks a bound
	case "kill-region-with-database":
		sc.During = 16 * time.Second // the leases move in 2 to 7 s, gossip sees it in as much
	case "freeze-region-database":
		sc.During = 10 * time.Second // too short for the victim's own bound; the others' is what it shows
	case "partition-region":
		sc.During = 16 * time.Second // the cut-off side refuses after about 10 s
	case "rolling-restart": // six nodes take 15 s
		sc.inject = rollingRestart((*target).nodes)
	default:
		sc.During = min(sc.During, 6*time.Second)
	}
	b := &sc.Bounds
	for _, bound := range []*time.Duration{&b.P99, &b.OthersP99, &b.Gap, &b.VictimGap, &b.MajorityGap} {
		*bound = loosened(*bound, sc.During)
	}
	if b.LossSeen = loosened(b.LossSeen, sc.During); b.LossSeen > sc.During {
		b.LossSeen = 0 // it may be healed before
	}
	return sc
}

// loosened is five times a bound, but no longer than the break lasts where that
// leaves half as much again.
func loosened(stated, during time.Duration) time.Duration {
	if during == 0 {
		return 5 * stated
	}
	return min(5*stated, max(3*stated/2, during-time.Second))
}

// shortRate keeps nine pairs of home and entry busy and leaves the machine to
// the other tests.
const shortRate = 60

// shortSettle is what leases take to come home on a busy machine.
const shortSettle = 90 * time.Second

// newRun is a scenario on a cluster that runs.
func newRun(t *testing.T, sc Scenario, s *target) *run {
	t.Helper()
	c := &Command{Rate: shortRate}
	return &run{scenario: sc, target: s, load: c.load(&sc), ledger: newLedgerPath(t), settle: shortSettle}
}

// play plays a scenario and wants all that it promises.
func play(t *testing.T, sc Scenario, s *target) Outcome {
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

// TestDrills plays every scenario that the shared cluster permits.
func TestDrills(t *testing.T) {
	engine := mustEngine(t)
	for _, sc := range Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			switch {
			case sc.needs.cockroach && engine != cluster.Cockroach:
				t.Skip("no CockroachDB here, and PostgreSQL has no region to lose")
			case sc.needs.networks:
				t.Skip("TestPartition plays it on a cluster of its own")
			case sc.needs.terraform:
				t.Skip("TestTerraformRegion plays it")
			}
			play(t, short(sc), mustTarget(t, engine))
		})
	}
}

// TestPartition cuts off a region whose devices have nowhere else to go. On
// CockroachDB they must keep punches on disk and flush them afterwards;
// PostgreSQL is in none of the regions' networks, so that nothing need wait.
func TestPartition(t *testing.T) {
	if err := cluster.CheckNetworks(); err != nil {
		t.Skip("the regions cannot have networks of their own here:", err)
	}
	s := &target{progress: io.Discard}
	setup := cluster.Setup{Engine: mustEngine(t), NodesPerRegion: 1, CompaniesPerRegion: 1, Binary: mustBinary(t)}
	sc := short(mustFind(t, "partition-region"))
	t.Cleanup(func() {
		if t.Failed() && s.stage != nil {
			s.stage.Keep()
			t.Log("data and logs are kept in", s.stage.Dir())
		}
		if err := s.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := s.start(testContext(t), &setup, sc.needs); err != nil {
		t.Fatal(err)
	}
	s.victim = s.state.Regions[0]
	warm(t, s)
	if err := s.rest(testContext(t)); err != nil {
		t.Fatal(err)
	}
	o := play(t, sc, s)
	if o.Outboxes == nil || o.Outboxes.Punched == 0 {
		t.Fatalf("no device punched: %+v", o.Outboxes)
	}
	t.Log(o.outboxes())
}

// TestABrokenClusterIsHealed: what was broken is healed although breaking it
// half failed.
func TestABrokenClusterIsHealed(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	sc := short(mustFind(t, "kill-node"))
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

// TestPointedAtARunningCluster breaks a cluster that the drill did not start by
// the operator's own commands.
func TestPointedAtARunningCluster(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	file, out := mustStateFile(t, s), t.TempDir()
	told := filepath.Join(t.TempDir(), "told")
	c := &Command{
		Name: "freeze-node", Cluster: file, Region: s.state.Regions[1], Rate: shortRate, Settle: shortSettle, Out: out,
		Before: time.Second, During: time.Second, After: time.Second,
		Inject: fmt.Sprintf(`echo "$PUNCHCLOCK_LAB_DRILL_REGION" >%s && kill -STOP %d`, told, s.stage.Region(s.state.Regions[1])[0].PID()),
		Heal:   fmt.Sprintf("kill -CONT %d", s.stage.Region(s.state.Regions[1])[0].PID()),
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

// TestSaysWhatItCannotPlay: a scenario that this machine or engine does not
// permit is passed over when all are played, and not in silence; it is an error
// with a status of its own when it was asked for.
func TestSaysWhatItCannotPlay(t *testing.T) {
	if !slices.Contains(mustEngines(t), cluster.Postgres) {
		t.Skip("no PostgreSQL here")
	}
	c := &Command{Name: "kill-region-with-database", Setup: cluster.Setup{Engine: cluster.Postgres}, Rate: shortRate, Out: t.TempDir()}
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
