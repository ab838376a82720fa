package drill

import (
	"context"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Scenario breaks something and heals it. Its bounds must hold meanwhile, and the ledger must be clean.
type Scenario struct {
	Name  string
	About string // what breaks, in one sentence
	// Before and After are the time under load around the break. During is the time between the end of inject and
	// heal.
	Before, During, After time.Duration
	Bounds                Bounds
	// offlineDevices adds devices that can reach the victim alone. They keep rejected punches in an outbox, and every
	// such punch must be recorded after the heal.
	offlineDevices bool
	needs          needs
	inject, heal   func(ctx context.Context, s *target) error // heal may be nil
}

// needs lists the requirements of a scenario.
type needs struct {
	cockroach bool // a database that can lose one region
	proxies   bool // proxies between nodes and database
	networks  bool // a network for each region, which needs root
	collector bool // a collector of the nodes' spans
	clock     bool // a binary whose clock can be set
	terraform bool // Terraform runs the victim's nodes instead of the cluster
	// outside is set if the operator's own commands are enough. Then the drill can break a cluster that it did not
	// start.
	outside bool
}

// Bounds are the limits of a scenario on one idle machine, for punches after the client's retries, from the break on.
// Zero means no limit. The victim is the region that is broken.
type Bounds struct {
	NoneFailed  bool          // every punch is acknowledged within the client's time limit
	P99         time.Duration // of every home, during and after the break
	OthersP99   time.Duration // of every home except the victim's, during and after the break
	Gap         time.Duration // the longest gap of any home and entry
	VictimGap   time.Duration // the longest gap of the victim's home, through any entry
	MajorityGap time.Duration // the longest gap of any home, through entries outside the victim
	// LossSeen is the time until all nodes outside the victim miss a node.
	LossSeen time.Duration
	// Goodput is the least share of the capacity that is acknowledged in each overload.
	Goodput float64
	// Calm is the time until the p99 is usual again after each overload.
	Calm time.Duration
}

const (
	second = time.Second
	before = 10 * second // some hundred punches of each home show the normal latency
	after  = 15 * second // a node that comes back has its full share of the load by then

	nodeLoss   = 8 * second  // until all others miss one node
	regionLoss = 10 * second // until all others miss the nodes of a region
)

// Scenarios returns all scenarios.
func Scenarios() []Scenario { return slices.Concat(regionScenarios(), nodeScenarios()) }

// regionScenarios take a region or a part of it away.
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
			// Time for the leases to move and for the circuit breakers to open and close.
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
			inject: func(_ context.Context, s *target) error { return s.environment.Database.Freeze(s.victim) },
			heal:   thawDatabase,
		},
		{
			Name: "partition-region", About: "a region is cut off from the others, 40 ms away, and its clients still reach it",
			// Longer than members need to declare each other dead.
			Before: before, During: 60 * second, After: 2 * after,
			Bounds:         Bounds{MajorityGap: 20 * second, LossSeen: regionLoss},
			offlineDevices: true,
			needs:          needs{networks: true},
			inject:         func(_ context.Context, s *target) error { return s.environment.Cut(s.victim) },
			heal:           func(_ context.Context, s *target) error { return s.environment.Mend(s.victim) },
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
			// On CockroachDB each company waits twice for a write to a global table.
			Bounds: Bounds{NoneFailed: true, P99: 3 * second, Gap: 3 * second},
			needs:  needs{outside: true},
			inject: moveAway, heal: moveBack,
		},
		{
			Name:   "stampede",
			About:  "a region's whole load meets one of its nodes, then the region dies under overload; the callers have no manners",
			Before: before, After: after,
			// Callers who ignore Retry-After cost a tenth at most: a refusal must be far cheaper than a punch.
			Bounds: Bounds{Goodput: 0.9, Calm: 5 * second},
			inject: stampede, heal: endStampede,
		},
	}
}

// nodeScenarios affect a single node or a service behind it.
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
			Name: "wrong-clock", About: "the clock of a node is 10 minutes behind, then right, then 10 minutes ahead",
			Before: before, During: 15 * second, After: after,
			Bounds: Bounds{NoneFailed: true, P99: second, LossSeen: nodeLoss},
			needs:  needs{clock: true},
			inject: wrongClock, heal: rightClock,
		},
		{
			Name: "slow-database", About: "a region's nodes reach the database 300 ms later each way",
			Before: before, During: 20 * second, After: after,
			// A punch of the slow home waits for a write before its own: two answers, and the same again for a
			// read-back.
			Bounds: Bounds{NoneFailed: true, P99: 3 * second, OthersP99: second},
			needs:  needs{proxies: true},
			inject: slowDatabase(300 * time.Millisecond), heal: slowDatabase(0),
		},
		{
			Name: "rolling-restart", About: "every node is stopped and started, one after the other",
			Before: before, After: after,
			Bounds: Bounds{NoneFailed: true, P99: second},
			inject: rollingRestart(func(s *target) []*cluster.Node { return s.environment.Nodes() }),
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

// find returns the scenario with that name.
func find(name string) (Scenario, bool) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}
