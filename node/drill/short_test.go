package drill

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/cluster"
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
