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
	"github.com/punchclock/punchclock/node/lab/traceview"
)

// site is the cluster that a drill breaks.
type target struct {
	state  cluster.State
	victim string // the region that is broken
	binary string // the punchclock executable
	lab    string // the punchclock-lab executable
	// stage is nil for a cluster that somebody else runs.
	stage     *cluster.Environment
	control   *cluster.Control  // nil unless Terraform runs nodes
	collector *traceview.Server // nil unless the scenario needs one
	local     string            // the folder terraform/local
	env       []string          // settings of the commands that shell runs
	say       func(format string, args ...any)
	progress  io.Writer // for people
	notes     []string  // what the reader of the result has to know
}

// nodes are those of the victim.
func (s *target) nodes() []*cluster.Node { return s.stage.Region(s.victim) }

// homes are the regions in which companies have their home.
func (s *target) homes() []string {
	return slices.DeleteFunc(slices.Clone(s.state.Regions), func(region string) bool {
		return !slices.ContainsFunc(s.state.Companies, func(c cluster.Company) bool { return c.Home == region })
	})
}

// entries are the regions with nodes.
func (s *target) entries() (names []string) {
	for _, entry := range s.state.Entries() {
		names = append(names, entry.Region)
	}
	return names
}

func killNode(_ context.Context, s *target) error { return s.nodes()[0].Kill() }

// eachNode does something to all nodes of the victim at once.
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
	_ = g.Wait() // the errors of all are in errs
	return errors.Join(errs...)
}

func killRegion(_ context.Context, s *target) error {
	return s.eachNode(func(n *cluster.Node) error { return n.Kill() })
}

// restartRegion starts the nodes of the victim that do not run.
func restartRegion(ctx context.Context, s *target) error {
	return s.eachNode(func(n *cluster.Node) error {
		if n.Running() {
			return nil
		}
		return n.Restart(ctx)
	})
}

func killRegionWithDatabase(ctx context.Context, s *target) error {
	return errors.Join(s.stage.Database.Kill(s.victim), killRegion(ctx, s))
}

func restartRegionWithDatabase(ctx context.Context, s *target) error {
	if err := s.stage.Database.Restart(ctx, s.victim); err != nil {
		return err
	}
	return restartRegion(ctx, s)
}

// wakingUp is how long a database that was thawed may take to find out that it
// had better end: it does so at once.
const wakingUp = 5 * time.Second

// thawDatabase does what a supervisor does, too: CockroachDB takes a freeze of
// more than 20 s for a dead disk and ends itself when it wakes up.
func thawDatabase(ctx context.Context, s *target) error {
	if err := s.stage.Database.Thaw(s.victim); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < wakingUp; {
		if !s.stage.Database.Running(s.victim) {
			s.notes = append(s.notes, "the database of "+s.victim+" ended itself when it woke up, as CockroachDB does after 20 s without its disk; it was started again")
			return s.stage.Database.Restart(ctx, s.victim)
		}
		if !pause(ctx, watchEvery) {
			return context.Cause(ctx)
		}
	}
	return nil
}

func slowDatabase(delay time.Duration) func(context.Context, *target) error {
	return func(_ context.Context, s *target) error {
		s.stage.Proxy(s.victim).Delay(delay)
		return nil
	}
}

// rollingRestart restarts some nodes one after the other.
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

// switchRegion is what an operator types, at a node outside the region, and at
// the next one when the database did not confirm the switch: it is the same
// switch however often it is set.
func switchRegion(verb string) func(context.Context, *target) error {
	return func(ctx context.Context, s *target) error {
		failed := errors.New("no node outside the region did it")
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

// operate runs a command of the operator's, who has a token and may change the
// database.
func (s *target) operate(ctx context.Context, args ...string) (output []byte, err error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	// Not where every account can read them.
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

// moveBack moves those home that were the victim's.
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

// startCollector starts one that takes the spans and forgets them.
func (s *target) startCollector(addr string) (err error) {
	s.collector, err = traceview.Start(addr, traceview.DefaultConfig())
	return err
}

func restartCollector(_ context.Context, s *target) error {
	return s.startCollector(strings.TrimPrefix(s.collector.URL, "http://"))
}

// traced makes every punch leave a trace, sent often.
func (s *target) traced(*cluster.Node) []string {
	return []string{
		"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT=" + s.collector.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_SAMPLER=always_on", "OTEL_BSP_SCHEDULE_DELAY=500",
	}
}

// start starts a cluster with what a scenario needs. close must be called,
// also after an error.
func (s *target) start(ctx context.Context, setup *cluster.Setup, n needs) (err error) {
	if n.collector {
		if err := s.startCollector("127.0.0.1:0"); err != nil {
			return err
		}
	}
	s.stage, err = setup.Start(ctx, s.progress, func(cfg *cluster.Config) {
		cfg.Proxies, cfg.Networks, cfg.RoundTrip = n.proxies, n.networks, 40*time.Millisecond
		if n.collector {
			cfg.ExtraEnv = s.traced
		}
	})
	if err != nil {
		return err
	}
	s.say, s.state, s.binary = s.stage.Say, s.stage.State(), s.stage.Binary
	return nil
}

// close stops what start has started. The collector goes last, so that the
// nodes need not wait for it.
func (s *target) close(ctx context.Context) (err error) {
	if s.control != nil {
		err = s.control.Close()
	}
	if s.stage != nil {
		err = errors.Join(err, s.stage.Close(ctx))
	}
	if s.collector != nil {
		err = errors.Join(err, s.collector.Close(context.WithoutCancel(ctx)))
	}
	return err
}

// rest returns when the cluster has come to rest: members known to each other
// and, on CockroachDB, replicas spread and leases at home.
func (s *target) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute) // a fresh CockroachDB beside a busy build
	defer cancel()
	s.say("waiting until members know each other and leases are at home")
	if s.stage != nil && s.stage.Database != nil {
		if err := s.stage.Database.WaitReplicated(ctx); err != nil {
			return err
		}
	}
	w := newWatcher(&s.state)
	defer w.close()
	for {
		home, err := w.leasesHome(ctx)
		views := w.look(ctx, nobody)
		if err == nil && home && allWhole(views) {
			return nil
		}
		for _, s := range views {
			err = errors.Join(err, s.err)
		}
		if !pause(ctx, watchEvery) {
			return errors.Join(fmt.Errorf("the cluster did not come to rest before the drill (leases at home: %t)", home), err)
		}
	}
}
