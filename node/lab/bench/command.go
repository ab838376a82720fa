package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Command is `punchclock-lab bench`.
type Command struct {
	Parts []string `arg:"" optional:"" help:"Parts to measure: overload, stampede, flood, cpu, nodes, group, queues, rows, region, memory, morning, routing. Default: all. 'report' measures none and writes the report again."`

	Engine string `help:"Measure on one database engine, cockroach or postgres. Default: every engine that is installed." enum:",cockroach,postgres" default:""`
	Binary string `help:"The punchclock executable. Default: the one beside this executable, then the PATH." type:"path"`
	Peers  string `help:"The executable of the designs to compare with, as 'make bench' builds it." default:"bin/punchclock-peers" type:"path"`
	Out    string `help:"Folder for results, plots and profiles." default:"docs/benchmarks" type:"path"`
	Report string `help:"The report to write." default:"BENCHMARKS.md" type:"path"`

	// The defaults keep a run of all parts within the budget for each engine.
	Budget   time.Duration `help:"Time for one engine. A part that would begin later is left out, and a part that runs is ended." default:"20m"`
	Round    time.Duration `help:"Length of one measurement in a comparison." default:"4s"`
	Rounds   int           `help:"Measurements of each side of a comparison. Their median counts." default:"3"`
	Step     time.Duration `help:"Length of one step of the search for the capacity." default:"4s"`
	Overload time.Duration `help:"Length of an overload." default:"8s"`
	Recovery time.Duration `help:"Length of the last and largest overload, after which the recovery is measured." default:"60s"`
	Growth   time.Duration `help:"Length of the overload in which growing memory is looked for; 10m is the full length." default:"60s"`
	Morning  time.Duration `help:"Length of the morning; 30m is the full length." default:"90s"`
	Rush     time.Duration `help:"How long punches are sent as fast as the machine can record them." default:"15s"`
	Punches  int           `help:"Punches that are sent to each queue; a quarter of them on CockroachDB." default:"20000"`

	inFlight int // punches under way at the same time
}

// part is one part of the benchmark.
type part struct {
	name    string
	measure func(context.Context, *session, *partRun) error
}

// parts in the order in which they run. The first ones find the capacity, which later ones use.
var parts = []part{
	{"overload", measureOverload}, {"stampede", measureStampede}, {"flood", measureFlood},
	{"cpu", measureCPU}, {"nodes", measureNodes}, {"group", measureGroup}, {"queues", measureQueues},
	{"rows", measureRows}, {"region", measureWrong}, {"memory", measureMemory}, {"morning", measureMorning},
	{"routing", measureRouting},
}

// onlyReport is the part that measures none.
const onlyReport = "report"

func (c *Command) chosen() ([]part, error) {
	if len(c.Parts) == 0 || slices.Equal(c.Parts, []string{"all"}) {
		return parts, nil
	}
	var list []part
	for _, name := range c.Parts {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		switch {
		case i >= 0:
			list = append(list, parts[i])
		case name != onlyReport:
			return nil, fmt.Errorf("there is no part %q", name)
		}
	}
	return list, nil
}

func (c *Command) validate() error {
	for name, d := range map[string]time.Duration{
		"round": c.Round, "step": c.Step, "overload": c.Overload, "recovery": c.Recovery, "growth": c.Growth, "rush": c.Rush,
	} {
		if d < time.Second {
			return fmt.Errorf("--%s: must be at least 1s, is %s", name, d)
		}
	}
	switch {
	case c.Rounds < 1:
		return fmt.Errorf("--rounds: must be at least 1, is %d", c.Rounds)
	case c.Morning < morningBusiest+2*time.Second:
		return fmt.Errorf("--morning: must be more than its minute of %s, is %s", morningBusiest, c.Morning)
	case c.Punches < leastPunches:
		return fmt.Errorf("--punches: must be at least %d, is %d", leastPunches, c.Punches)
	case c.Budget <= 0:
		return fmt.Errorf("--budget: must be more than 0, is %s", c.Budget)
	default:
		return nil
	}
}

// Run measures the chosen parts on each engine and writes the report. A part that fails is named in the report, and the
// other parts go on.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	chosen, err := c.chosen()
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		return err
	}
	if len(chosen) > 0 {
		err = c.measure(ctx, chosen)
	}
	if ctx.Err() != nil {
		return err
	}
	missed, reported := c.writeReport()
	if reported == nil {
		fmt.Fprintf(out, "wrote %s; %d figures miss their target\n", c.Report, missed)
	}
	return errors.Join(err, reported)
}

func (c *Command) measure(ctx context.Context, chosen []part) error {
	limit, err := raiseFileLimit(files)
	if err != nil {
		return err
	}
	c.inFlight = min(maxInFlight, int(limit)-spareFiles)
	if runtime.NumCPU() < 2 {
		return errors.New("the benchmark needs two cores: one for the load generator, one for the servers")
	}
	if err := pinSelf(serverCore); err != nil {
		return err
	}
	engines := []string{c.Engine}
	if c.Engine == "" {
		engines = nil
		for _, e := range cluster.Engines() {
			engines = append(engines, e.Name)
		}
	}
	if len(engines) == 0 {
		return errors.New("no database engine was found: run scripts/setup database")
	}
	var errs []error
	for _, engine := range engines {
		if err := c.measureEngine(ctx, engine, chosen); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", engine, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (c *Command) measureEngine(ctx context.Context, engine string, chosen []part) (err error) {
	s, err := c.start(ctx, engine, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.env.Close(ctx)) }()
	deadline := time.Now().Add(c.Budget)
	var failed []string
	for _, p := range chosen {
		if !time.Now().Before(deadline) {
			s.say("%s is left out: the time of %s is used up", p.name, c.Budget)
			failed = append(failed, p.name)
			continue
		}
		s.say("== %s on %s", p.name, engine)
		if err := s.runPart(ctx, p, deadline); err != nil {
			s.say("%s failed: %v", p.name, err)
			failed = append(failed, p.name)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("these parts failed or were left out: %s", strings.Join(failed, ", "))
	}
	return nil
}

// partLimit is a bound for a part that hangs: far more than a part takes beside the lengths that flags set.
const partLimit = 6 * time.Minute

func (c *Command) partLimit() time.Duration { return partLimit + c.Recovery + c.Growth + c.Morning }

func (s *session) runPart(ctx context.Context, p part, deadline time.Time) error {
	limited, cancel := context.WithDeadline(ctx, earlier(deadline, time.Now().Add(s.cmd.partLimit())))
	defer cancel()
	run := partRun{When: time.Now().UTC().Truncate(time.Second), Commit: commit(limited), Machine: describeMachine(limited)}
	err := p.measure(limited, s, &run)
	if err != nil && ctx.Err() != nil {
		return err // the user's end of the run says nothing about the part
	}
	if err != nil && limited.Err() != nil {
		err = fmt.Errorf("the part was ended after %s: %w", time.Since(run.When).Round(time.Second), err)
	}
	if err == nil {
		s.explain(limited, p.name, &run)
	}
	run.Took = time.Since(run.When).Round(time.Second)
	if err != nil {
		run.Failure = err.Error()
	}
	s.results.Parts[p.name] = run
	s.say("%s took %s", p.name, run.Took)
	return errors.Join(err, s.results.write(s.cmd.Out))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
