package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
	"github.com/punchclock/punchclock/node/lab/traceview"
)

// target is the cluster that a drill breaks.
type target struct {
	state  cluster.State
	victim string // the region that is broken
	binary string // the punchclock executable
	lab    string // the punchclock-lab executable
	// environment is nil for a cluster that the drill did not start.
	environment *cluster.Environment
	control     *cluster.Control  // nil unless Terraform runs nodes
	collector   *traceview.Server // nil unless the scenario needs one
	clocks      *clocks           // nil unless the scenario needs it
	ledger      *Ledger           // of the drill that runs
	probe       *probe            // of wrongClock
	local       string            // the folder terraform/local
	env         []string          // settings for the commands that shell runs
	say         func(format string, args ...any)
	progress    io.Writer // for people
	notes       []string  // what the reader of the result must know
	overloads   []Overload
	processors  *load.Processors // nil until a scenario splits them
}

// nodes returns the victim's nodes.
func (s *target) nodes() []*cluster.Node { return s.environment.Region(s.victim) }

// homes returns the regions that are the home of a company.
func (s *target) homes() []string {
	return slices.DeleteFunc(slices.Clone(s.state.Regions), func(region string) bool {
		return !slices.ContainsFunc(s.state.Companies, func(c cluster.Company) bool { return c.Home == region })
	})
}

// entries returns the regions that have nodes.
func (s *target) entries() (names []string) {
	for _, entry := range s.state.Entries() {
		names = append(names, entry.Region)
	}
	return names
}

func killNode(_ context.Context, s *target) error { return s.nodes()[0].Kill() }

// eachNode calls do for all nodes of the victim at once.
func (s *target) eachNode(do func(*cluster.Node) error) error {
	nodes := s.nodes()
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for i, n := range nodes {
		g.Go(func() error {
			errs[i] = do(n)
			return nil
		})
	}
	_ = g.Wait() // errs holds the errors
	return errors.Join(errs...)
}

func killRegion(_ context.Context, s *target) error {
	return s.eachNode(func(n *cluster.Node) error { return n.Kill() })
}

// restartRegion starts the victim's nodes that do not run.
func restartRegion(ctx context.Context, s *target) error {
	return s.eachNode(func(n *cluster.Node) error {
		if n.Running() {
			return nil
		}
		return n.Restart(ctx)
	})
}

func killRegionWithDatabase(ctx context.Context, s *target) error {
	return errors.Join(s.environment.Database.Kill(s.victim), killRegion(ctx, s))
}

func restartRegionWithDatabase(ctx context.Context, s *target) error {
	if err := s.environment.Database.Restart(ctx, s.victim); err != nil {
		return err
	}
	return restartRegion(ctx, s)
}

// wakingUp is how long a thawed database may take to end itself. It does so at once.
const wakingUp = 5 * time.Second

// thawDatabase also restarts a database that ends itself, as a supervisor does. CockroachDB takes a freeze of more
// than 20 s for a dead disk and ends itself when it wakes up.
func thawDatabase(ctx context.Context, s *target) error {
	if err := s.environment.Database.Thaw(s.victim); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < wakingUp; {
		if !s.environment.Database.Running(s.victim) {
			s.notes = append(s.notes, "the database of "+s.victim+" ended itself when it woke up, as CockroachDB does after 20 s without its disk; the drill started it again")
			return s.environment.Database.Restart(ctx, s.victim)
		}
		if !cluster.Pause(ctx, watchEvery) {
			return context.Cause(ctx)
		}
	}
	return nil
}

func slowDatabase(delay time.Duration) func(context.Context, *target) error {
	return func(_ context.Context, s *target) error {
		s.environment.Proxy(s.victim).Delay(delay)
		return nil
	}
}

// rollingRestart restarts nodes one after the other.
func rollingRestart(nodes func(*target) []*cluster.Node) func(context.Context, *target) error {
	return func(ctx context.Context, s *target) error {
		for _, n := range nodes(s) {
			if err := n.Restart(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// switchRegion runs the operator's command at a node outside the region. If the database did not confirm the switch,
// it goes on to the next node. Repeating the command sets the same switch.
func switchRegion(verb string) func(context.Context, *target) error {
	return func(ctx context.Context, s *target) error {
		failed := errors.New("no node outside the region took the switch")
		for _, n := range s.state.Nodes {
			if n.Region == s.victim {
				continue
			}
			text, err := s.operate(ctx, "region", verb, s.victim, "--ops-url", n.OpsURL,
				"--ops-ca-file="+s.state.Authority, "--ops-deployment="+s.state.Deployment)
			if err == nil {
				return nil
			}
			failed = errors.Join(failed, fmt.Errorf("region %s %s: %w\n%s", verb, s.victim, err, text))
		}
		return failed
	}
}

// operate runs a command of an operator, who has a token and may change the database.
func (s *target) operate(ctx context.Context, args ...string) (output []byte, err error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	// Other accounts can read arguments, but not the environment.
	cmd.Env = append(os.Environ(), "PUNCHCLOCK_TOKEN="+s.state.OperatorToken, "PUNCHCLOCK_DATABASE_URL="+s.state.Database.URL)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err = runCommand(ctx, cmd, operatorGrace)
	return text.Bytes(), err
}

func (s *target) move(ctx context.Context, company, to string) (output []byte, err error) {
	return s.operate(ctx, "company", "move", company, "--to", to)
}

// moveAway moves all companies of the victim to the next region.
func moveAway(ctx context.Context, s *target) error {
	regions := s.state.Regions
	next := regions[(slices.Index(regions, s.victim)+1)%len(regions)]
	text, err := s.operate(ctx, "region", "move-homes", s.victim, "--to", next)
	if err != nil {
		return fmt.Errorf("region move-homes %s: %w\n%s", s.victim, err, text)
	}
	return nil
}

// moveBack moves the victim's companies home.
func moveBack(ctx context.Context, s *target) error {
	for _, c := range s.state.Companies {
		if c.Home != s.victim {
			continue
		}
		if text, err := s.move(ctx, c.ID, s.victim); err != nil {
			return fmt.Errorf("company move %s: %w\n%s", c.ID, err, text)
		}
	}
	return nil
}

// startCollector starts a collector that keeps spans in memory alone.
func (s *target) startCollector(addr string) (err error) {
	s.collector, err = traceview.Start(addr, traceview.DefaultConfig())
	return err
}

func restartCollector(_ context.Context, s *target) error {
	return s.startCollector(strings.TrimPrefix(s.collector.URL, "http://"))
}

// traced makes every punch leave a trace that is sent soon.
func (s *target) traced() []string {
	return []string{
		"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT=" + s.collector.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_SAMPLER=always_on", "OTEL_BSP_SCHEDULE_DELAY=500",
	}
}

// start starts a cluster with the parts that a scenario needs. The caller must call close, also after an error.
func (s *target) start(ctx context.Context, setup cluster.Setup, n needs) (err error) {
	if n.collector {
		if err := s.startCollector("127.0.0.1:0"); err != nil {
			return err
		}
	}
	if n.clock {
		dir, err := os.MkdirTemp("", "punchclock-clocks-")
		if err != nil {
			return err
		}
		s.clocks = &clocks{dir}
	}
	s.environment, err = setup.Start(ctx, s.progress, func(cfg *cluster.Config) {
		cfg.Proxies, cfg.Networks, cfg.RoundTrip = n.proxies, n.networks, 40*time.Millisecond
		cfg.ExtraEnv = func(node *cluster.Node) (env []string) {
			if n.collector {
				env = append(env, s.traced()...)
			}
			if n.clock {
				env = append(env, s.clocks.env(node)...)
			}
			return env
		}
	})
	if err != nil {
		return err
	}
	s.say, s.state, s.binary = s.environment.Say, s.environment.State(), s.environment.Binary
	return nil
}

// close stops what start has started. The collector goes last, because a node that stops sends its last spans.
func (s *target) close(ctx context.Context) (err error) {
	if s.control != nil {
		err = s.control.Close()
	}
	if s.environment != nil {
		err = errors.Join(err, s.environment.Close(ctx))
	}
	if s.collector != nil {
		err = errors.Join(err, s.collector.Close(context.WithoutCancel(ctx)))
	}
	if s.clocks != nil {
		err = errors.Join(err, os.RemoveAll(s.clocks.dir))
	}
	return err
}

// rest returns when the cluster is at rest: all members know each other, and on CockroachDB replicas are spread and
// leases are at home.
func (s *target) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	s.say("waiting until members know each other and leases are at home")
	if s.environment != nil && s.environment.Database != nil {
		if err := s.environment.Database.WaitReplicated(ctx); err != nil {
			return err
		}
	}
	w := newWatcher(&s.state)
	defer w.close()
	for {
		home, err := w.leasesHome(ctx)
		if home {
			return errors.Join(err, s.whole(ctx))
		}
		if !cluster.Pause(ctx, watchEvery) {
			return errors.Join(errors.New("leases did not come home before the drill"), err)
		}
	}
}

// restTimeout is enough for a fresh CockroachDB beside a busy build.
const restTimeout = 3 * time.Minute

// whole returns when every node answers and counts every node as ready.
func (s *target) whole(ctx context.Context) error {
	return s.await(ctx, "every node counts every node as ready", allRegions, allWhole)
}

// missed returns when no node outside the victim counts every node as ready.
func (s *target) missed(ctx context.Context) error {
	return s.await(ctx, "the nodes outside "+s.victim+" miss a node", s.victim, lossSeen)
}

// await asks the nodes outside a region until what they say is seen.
func (s *target) await(ctx context.Context, what, without string, seen func([]view) bool) error {
	w := newWatcher(&s.state)
	defer w.close()
	for {
		views := w.look(ctx, without)
		if seen(views) {
			return nil
		}
		if !cluster.Pause(ctx, watchEvery) {
			err := fmt.Errorf("did not come: %s: %w", what, context.Cause(ctx))
			for _, v := range views {
				err = errors.Join(err, v.err)
			}
			return err
		}
	}
}
