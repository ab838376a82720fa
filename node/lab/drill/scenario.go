package drill

import (
	"context"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Scenario is something that breaks, how it is healed, and what must hold all
// the while. The ledger must be clean in each of them.
type Scenario struct {
	Name  string
	About string // what breaks, in one sentence
	// Before and After are for how long the load is held around the break,
	// During for how long the break lasts once it is brought about.
	Before, During, After time.Duration
	Bounds                Bounds
	// offlineDevices adds devices that can reach the victim alone and keep in an
	// outbox what it does not take: all of it must be recorded once healed.
	offlineDevices bool
	needs          needs
	inject, heal   func(ctx context.Context, s *target) error // heal may be nil
}

// needs is what a scenario cannot do without.
type needs struct {
	cockroach bool // a database whose regions break one by one
	proxies   bool // between nodes and database
	networks  bool // one per region, which root makes
	collector bool // that takes the nodes' spans
	terraform bool // runs the victim's nodes, in the cluster's place
	// nothing is set where the operator's own tools are enough, so that a
	// cluster that the drill did not start can be broken.
	outside bool
}

// Bounds are what a scenario promises on one machine, for punches after the
// client's retries, from the break on. A zero is no promise. The victim is the
// region that is broken.
type Bounds struct {
	NoneFailed  bool          // every punch is acknowledged within the client's patience
	P99         time.Duration // of every home, during and after
	OthersP99   time.Duration // of every home but the victim's, during and after
	Gap         time.Duration // the longest of any home and entry
	VictimGap   time.Duration // the longest of the victim's home, through any entry
	MajorityGap time.Duration // the longest of any home, through entries other than the victim's
	// LossSeen is until all nodes outside the victim miss who is gone.
	LossSeen time.Duration
}

const (
	second = time.Second
	before = 10 * second // some hundred punches of each home tell what is normal
	after  = 15 * second // what comes back has taken its share again

	nodeLoss   = 8 * second  // a node is missed by all that are left
	regionLoss = 10 * second // all nodes of a region are
)

// Scenarios returns all of them.
func Scenarios() []Scenario { return slices.Concat(regionScenarios(), nodeScenarios()) }

// regionScenarios are those that take a region, or a part of it, away.
func regionScenarios() []Scenario {
	return []Scenario{
		{
			Name: "kill-region", About: "all nodes of a region die at once",
			Before: before, During: 20 * second, After: after,
			Bounds: Bounds{Gap: 2 * second, LossSeen: regionLoss},
			inject: killRegion, heal: restartRegion,
		},
		{
			Name: "kill-region-with-database", About: "all nodes of a region and its database die at once",
			// Time for the leases to move and for the circuits to see it.
			Before: before, During: 30 * second, After: 2 * after,
			Bounds: Bounds{VictimGap: 10 * second, OthersP99: second, LossSeen: regionLoss},
			needs:  needs{cockroach: true},
			inject: killRegionWithDatabase, heal: restartRegionWithDatabase,
		},
		{
			Name: "freeze-region-database", About: "the database of a region holds its connections and answers nothing (SIGSTOP)",
			Before: before, During: 40 * second, After: 2 * after,
			Bounds: Bounds{VictimGap: 25 * second, OthersP99: second},
			needs:  needs{cockroach: true},
			inject: func(_ context.Context, s *target) error { return s.stage.Database.Freeze(s.victim) },
			heal:   thawDatabase,
		},
		{
			Name: "partition-region", About: "a region is cut off from the others, 40 ms away, and its clients still reach it",
			// Longer than members take to forget each other.
			Before: before, During: 60 * second, After: 2 * after,
			Bounds:         Bounds{MajorityGap: 20 * second, LossSeen: regionLoss},
			offlineDevices: true,
			needs:          needs{networks: true},
			inject:         func(_ context.Context, s *target) error { return s.stage.Cut(s.victim) },
			heal:           func(_ context.Context, s *target) error { return s.stage.Mend(s.victim) },
		},
		{
			Name: "evacuate-region", About: "the operator takes a region out of service and puts it back",
			Before: before, During: 15 * second, After: after,
			Bounds: Bounds{NoneFailed: true, Gap: second},
			needs:  needs{outside: true},
			inject: switchRegion("evacuate"), heal: switchRegion("restore"),
		},
		{
			Name: "terraform-region", About: "terraform destroy takes the nodes of a region away, terraform apply brings them back",
			Before: before, During: 15 * second, After: after,
			Bounds: Bounds{NoneFailed: true, P99: second, Gap: second},
			needs:  needs{terraform: true},
			inject: terraform("destroy -auto-approve"), heal: terraform("apply -auto-approve"),
		},
		{
			Name: "move-region", About: "the operator moves all companies of a region to another one, and back",
			Before: before, During: 5 * second, After: after,
			// Making another region the home waits, on CockroachDB, for a
			// global table, twice for each company.
			Bounds: Bounds{NoneFailed: true, P99: 3 * second, Gap: 3 * second},
			needs:  needs{outside: true},
			inject: moveAway, heal: moveBack,
		},
	}
}

// nodeScenarios are those that a single node, or what stands behind it, brings
// about.
func nodeScenarios() []Scenario {
	return []Scenario{
		{
			Name: "kill-node", About: "a node dies without a word (SIGKILL)",
			Before: before, During: 15 * second, After: after,
			Bounds: Bounds{NoneFailed: true, P99: second, LossSeen: nodeLoss},
			inject: killNode, heal: restartRegion,
		},
		{
			Name: "freeze-node", About: "a node holds its connections and answers nothing (SIGSTOP)",
			Before: before, During: 20 * second, After: after,
			Bounds: Bounds{NoneFailed: true, P99: 3 * second, LossSeen: nodeLoss},
			inject: func(_ context.Context, s *target) error { return s.nodes()[0].Freeze() },
			heal:   func(_ context.Context, s *target) error { return s.nodes()[0].Thaw() },
		},
		{
			Name: "slow-database", About: "a region's nodes reach the database 300 ms later each way",
			Before: before, During: 20 * second, After: after,
			// A punch of the slow home waits for a flush before its own: two
			// answers, and as much again for a read-back.
			Bounds: Bounds{NoneFailed: true, P99: 3 * second, OthersP99: second},
			needs:  needs{proxies: true},
			inject: slowDatabase(300 * time.Millisecond), heal: slowDatabase(0),
		},
		{
			Name: "rolling-restart", About: "every node is stopped and started, one after the other",
			Before: before, After: after,
			Bounds: Bounds{NoneFailed: true, P99: second},
			inject: rollingRestart(func(s *target) []*cluster.Node { return s.stage.Nodes() }),
		},
		{
			Name: "collector-down", About: "the collector of the traces goes away",
			Before: before, During: 15 * second, After: after,
			Bounds: Bounds{NoneFailed: true, P99: second, Gap: second},
			needs:  needs{collector: true},
			inject: func(ctx context.Context, s *target) error { return s.collector.Close(ctx) },
			heal:   restartCollector,
		},
	}
}

// find returns the scenario of that name.
func find(name string) (Scenario, bool) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}
