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

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/cluster"
	"github.com/punchclock/punchclock/node/stage"
)

// short makes a scenario brief. Its latencies are not held to the bounds: the
// tests of other packages run on the same machine. `make drill` does that.
func short(sc Scenario) Scenario {
	sc.Before, sc.After = time.Second, 2*time.Second
	sc.During = min(sc.During, 4*time.Second)
	if sc.needs.cockroach {
		sc.During = 10 * time.Second // the leases move in 2 to 7 s
	}
	if sc.Name == "rolling-restart" { // six nodes take 15 s
		sc.inject = rollingRestart((*site).nodes)
	}
	return sc
}

// shortRate keeps nine pairs of home and entry busy and leaves the machine to
// the other tests.
const shortRate = 60

// play plays a scenario on a shared cluster.
func play(t *testing.T, sc Scenario, s *site) Outcome {
	t.Helper()
	c := &Exercise{Rate: shortRate}
	r := &run{scenario: sc, site: s, load: c.load(&sc), ledger: newLedgerPath(t), settle: time.Minute}
	o, err := r.conduct(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestDrills plays every scenario that an engine permits, the database's own on
// CockroachDB and the others on whichever comes last: the stand-in where it is
// there, since it starts faster.
func TestDrills(t *testing.T) {
	engines := mustEngines(t)
	last := engines[len(engines)-1]
	for _, sc := range Scenarios() {
		t.Run(sc.Name, func(t *testing.T) {
			engine := last
			switch {
			case sc.needs.cockroach && !slices.Contains(engines, cluster.Cockroach):
				t.Skip("no CockroachDB here, and PostgreSQL has no region to lose")
			case sc.needs.cockroach:
				engine = cluster.Cockroach
			case sc.needs.networks:
				t.Skip("needs a cluster of its own; make drill plays it")
			case sc.needs.terraform:
				t.Skip("TestTerraformRegion plays it")
			}
			o := play(t, short(sc), mustSite(t, engine))
			check(t, &o, sc.Bounds)
		})
	}
}

// check holds an outcome against all that does not depend on how fast the
// machine is.
func check(t *testing.T, o *Outcome, b Bounds) {
	t.Helper()
	if err := o.Ledger.Verdict(); err != nil {
		t.Error(err)
	}
	if b.NoneFailed && o.Failed > 0 {
		t.Errorf("%d punches failed", o.Failed)
	}
	for _, g := range o.Gaps {
		if g.Open || g.Took == 0 {
			t.Errorf("%s through %s: %s without an acknowledgement, and to the end: %t", g.Home, g.Entry, g.Took, g.Open)
		}
	}
	for _, h := range o.Homes {
		if h.Phase != During && h.Sent == 0 {
			t.Errorf("no punch of %s %s: the drill shows nothing", h.Home, h.Phase)
		}
	}
	if o.Watch.MembersBack == nil {
		t.Error("the members were not back")
	}
	if t.Failed() {
		t.Log(o)
	}
}

// TestABrokenClusterIsHealed: what was broken is healed although breaking it
// half failed.
func TestABrokenClusterIsHealed(t *testing.T) {
	engines := mustEngines(t)
	s := mustSite(t, engines[len(engines)-1])
	sc := short(mustFind(t, "kill-node"))
	inject, reason := sc.inject, errors.New("could not do all of it")
	sc.inject = func(ctx context.Context, s *site) error { return errors.Join(inject(ctx, s), reason) }
	c := &Exercise{Rate: shortRate}
	r := &run{scenario: sc, site: s, load: c.load(&sc), ledger: newLedgerPath(t), settle: time.Minute}
	if _, err := r.conduct(testContext(t)); !errors.Is(err, reason) {
		t.Fatalf("got %v, want the failure of the break", err)
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
	engines := mustEngines(t)
	s := mustSite(t, engines[len(engines)-1])
	file, out := filepath.Join(t.TempDir(), "cluster.json"), t.TempDir()
	state := s.stage.State()
	if err := state.Write(file); err != nil {
		t.Fatal(err)
	}
	told := filepath.Join(t.TempDir(), "told")
	c := &Exercise{
		Name: "freeze-node", Cluster: file, Region: s.state.Regions[1], Rate: shortRate, Settle: time.Minute, Out: out,
		Before: time.Second, During: time.Second, After: time.Second,
		Inject: fmt.Sprintf(`echo "$PUNCHCLOCK_DRILL_REGION" >%s && kill -STOP %d`, told, s.stage.Region(s.state.Regions[1])[0].PID()),
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
	c := &Exercise{Name: "kill-region-with-database", Setup: stage.Setup{Engine: cluster.Postgres}, Rate: shortRate, Out: t.TempDir()}
	var out strings.Builder
	err := c.Run(testContext(t), &out)
	if exit, ok := errors.AsType[*client.ExitError](err); !ok || exit.Status != ExitSkipped {
		t.Errorf("got %v, want exit status %d", err, ExitSkipped)
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
