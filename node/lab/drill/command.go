package drill

import (
	"context"
	"encoding/json" // writes a time.Duration as nanoseconds
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
)

// Command is `punchclock-lab drill`.
type Command struct {
	Name          string `arg:"" help:"Scenario to play, or all. Without a name the drill lists the scenarios." optional:""`
	cluster.Setup `embed:""`
	Cluster       string `help:"State file of a cluster that runs already, as 'punchclock-lab up' writes it. Its companies must have no other traffic: a row that the drill did not send counts as a fault." type:"existingfile"`
	Inject        string `help:"Shell command that breaks something, instead of the scenario's own break." placeholder:"CMD"`
	Heal          string `help:"Shell command that heals it." placeholder:"CMD"`
	Region        string `help:"Region to break. The default is the database's primary region, which is the hardest to lose."`
	// Two cores that also run the whole cluster hold this rate easily. Each of nine pairs of home and entry gets
	// eleven punches a second.
	Rate   float64       `help:"Punches per second." default:"100"`
	Before time.Duration `help:"How long the load runs before the break; 0 means the scenario's own time."`
	During time.Duration `help:"How long the break lasts; 0 means the scenario's own time."`
	After  time.Duration `help:"How long the load runs after the heal; 0 means the scenario's own time."`
	// After the loss of a database region, leases return within about a minute.
	Settle time.Duration `help:"How long members and leases may take to be back after the heal." default:"90s"`
	// make drill runs in the root of the source.
	Terraform string `help:"Folder of the configuration that terraform-region applies." default:"terraform/local" type:"path"`
	Out       string `help:"Folder for ledgers, results and pages." default:".run/drills" type:"path"`
}

// ExitSkipped is the exit status of a named scenario that cannot run here, so that a script does not take it for a
// pass. Test harnesses use 77 for this.
const ExitSkipped = 77

// ErrSkipped is returned for a scenario that was asked for by its name and cannot run on this machine.
var ErrSkipped = errors.New("the scenario cannot run here")

// Run runs one drill or all, and writes summaries to out. It returns nil only if every ledger is clean and every bound
// holds. Of all drills it skips a drill that cannot run here and names it. A drill named alone that cannot run is an
// ErrSkipped.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	switch c.Name {
	case "":
		return list(out)
	case "all":
		return c.all(ctx, out)
	default:
		sc, ok := find(c.Name)
		if !ok {
			return fmt.Errorf("there is no scenario %q; without a name the drill lists the scenarios", c.Name)
		}
		err := c.one(ctx, sc, out)
		if skip, ok := errors.AsType[*skipped](err); ok {
			_, werr := fmt.Fprintf(out, "\nSKIPPED  %s: %s\n", sc.Name, skip.reason)
			return errors.Join(fmt.Errorf("%w: %s: %s", ErrSkipped, sc.Name, skip.reason), werr)
		}
		return err
	}
}

func list(out io.Writer) error {
	var s strings.Builder
	for _, sc := range Scenarios() {
		_, _ = fmt.Fprintf(&s, "%-27s %s\n", sc.Name, sc.About) // a Builder never fails
	}
	_, err := io.WriteString(out, s.String())
	return err
}

// all runs every scenario, each on a fresh cluster of its own.
func (c *Command) all(ctx context.Context, out io.Writer) error {
	var summary strings.Builder
	var errs []error
	for _, sc := range Scenarios() {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		err := c.one(ctx, sc, out)
		verdict := "PASSED "
		if skip, ok := errors.AsType[*skipped](err); ok {
			_, _ = fmt.Fprintf(&summary, "SKIPPED  %-27s %s\n", sc.Name, skip.reason)
			continue
		}
		if err != nil {
			verdict = "FAILED "
			errs = append(errs, fmt.Errorf("%s: %w", sc.Name, err))
		}
		_, _ = fmt.Fprintf(&summary, "%s  %s\n", verdict, sc.Name)
	}
	_, err := fmt.Fprintf(out, "\n%s", summary.String())
	return errors.Join(append(errs, err)...)
}

// skipped says why a scenario cannot run here.
type skipped struct{ reason string }

func (s *skipped) Error() string { return "skipped: " + s.reason }

// one runs a scenario and leaves its ledger, its result and its page.
func (c *Command) one(ctx context.Context, sc Scenario, out io.Writer) (err error) {
	if err := c.adapt(&sc); err != nil {
		return err
	}
	dir, err := c.folder(sc.Name)
	if err != nil {
		return err
	}
	s, stop, err := c.target(ctx, &sc)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return errors.Join(err, os.Remove(dir)) // the folder is empty
	}
	if err := s.rest(ctx); err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	s.say("%s: %.0f punches/s through %s", sc.Name, c.Rate, strings.Join(s.state.Regions, ", "))
	r := &run{
		scenario: sc, target: s, load: c.load(&sc), ledger: filepath.Join(dir, "ledger.jsonl"),
		settle: c.Settle, progress: showProgress(os.Stderr, sc.Name),
	}
	o, err := r.execute(ctx)
	// The result is written whatever happened.
	err = errors.Join(err, c.publish(&o, dir, out))
	if err == nil {
		err = o.Verdict()
	}
	if err == nil {
		return nil
	}
	if s.environment != nil {
		s.environment.Keep() // the evidence
	}
	if o.Error != "" {
		s.say("audit it later: %s", auditCommand(r.ledger, s.state.Database.URL))
	}
	return err
}

// auditCommand returns the command that audits a ledger later. It does not show a password.
func auditCommand(ledger, databaseURL string) string {
	if cfg, err := pgx.ParseConfig(databaseURL); err != nil || cfg.Password != "" {
		databaseURL = "$PUNCHCLOCK_DATABASE_URL"
	}
	return fmt.Sprintf("punchclock-lab audit %s --database-url %q", ledger, databaseURL)
}

// adapt applies the flags to a scenario.
func (c *Command) adapt(sc *Scenario) error {
	for _, d := range []struct{ own, flag *time.Duration }{{&sc.Before, &c.Before}, {&sc.During, &c.During}, {&sc.After, &c.After}} {
		if *d.flag != 0 {
			*d.own = *d.flag
		}
	}
	if c.Cluster == "" || (sc.needs.outside && c.Inject == "") {
		return nil
	}
	if c.Inject == "" || c.Heal == "" {
		return fmt.Errorf("%s on a running cluster needs --inject and --heal: the drill did not start its processes", sc.Name)
	}
	sc.needs = needs{}
	sc.inject, sc.heal = shell(c.Inject), shell(c.Heal)
	sc.Bounds.Goodput, sc.Bounds.Calm = 0, 0 // a command of the operator measures no capacity
	return nil
}

// folder creates the folder of one drill.
func (c *Command) folder(name string) (string, error) {
	dir := filepath.Join(c.Out, time.Now().UTC().Format("20060102-150405-")+name)
	return dir, os.MkdirAll(dir, 0o755)
}

// target starts a cluster, or finds the cluster that runs. The caller must call stop, also after an error.
func (c *Command) target(ctx context.Context, sc *Scenario) (s *target, stop func() error, err error) {
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	s = &target{victim: c.Region, local: c.Terraform, progress: os.Stderr, say: say}
	stop = func() error { return s.close(ctx) }
	if s.lab, err = os.Executable(); err != nil {
		return s, stop, err
	}
	if c.Cluster != "" {
		err = c.find(s)
	} else if err = c.possible(sc); err == nil {
		err = s.start(ctx, c.Setup, sc.needs)
	}
	if err != nil {
		return s, stop, err
	}
	if s.victim == "" {
		s.victim = s.state.Regions[0]
	}
	if !slices.Contains(s.state.Regions, s.victim) {
		return s, stop, fmt.Errorf("--region: %q is not one of %s", s.victim, strings.Join(s.state.Regions, ", "))
	}
	if sc.needs.terraform {
		err = s.handOver(ctx)
	}
	return s, stop, err
}

// find takes a cluster that runs already.
func (c *Command) find(s *target) error {
	state, err := cluster.ReadState(c.Cluster)
	if err != nil {
		return err
	}
	if len(state.Regions) == 0 || len(state.Nodes) == 0 || len(state.Companies) == 0 {
		return fmt.Errorf("%s: the file must list regions, nodes and companies", c.Cluster)
	}
	s.state = *state
	s.binary, err = cluster.FindBinary(c.Binary)
	return err
}

// possible returns a *skipped if the scenario cannot run here.
func (c *Command) possible(sc *Scenario) error {
	if sc.needs.networks {
		if err := cluster.CheckNetworks(); err != nil {
			return &skipped{"this account or system cannot give each region a network of its own: " + err.Error()}
		}
	}
	if sc.needs.clock && c.Binary == "" {
		var err error
		if c.Binary, err = findClockBinary(); err != nil {
			return &skipped{err.Error()}
		}
	}
	if sc.needs.terraform {
		if err := checkTerraform(c.Terraform); err != nil {
			return &skipped{err.Error()}
		}
	}
	if !sc.needs.cockroach {
		return nil
	}
	engine, err := cluster.FindEngine(c.Engine)
	if err == nil && engine.Name != cluster.Cockroach {
		err = &skipped{"needs CockroachDB: PostgreSQL is one process for all regions and cannot lose one region"}
	}
	return err
}

// load returns the steady load of a drill.
func (c *Command) load(sc *Scenario) load.Load {
	// This is longer than the longest break in which punches must be served: the 25 s of a frozen database region.
	const totalTimeout = 45 * time.Second
	return load.Load{
		Rate: c.Rate, Steady: true,
		Duration: sc.Before + sc.During + sc.After + 2*actTimeout, // the end of the scenario stops it before
		// Two of three punches enter outside their home, so that all pairs of home and entry get the same load.
		CrossRegion: 2. / 3, Repeats: 0.02, Seed: uint64(time.Now().UnixNano()),
		MaxInFlight:  int(c.Rate*totalTimeout.Seconds()) + 1000,
		TotalTimeout: totalTimeout,
	}
}

// publish writes the result as JSON, as a page and as text.
func (c *Command) publish(o *Outcome, dir string, out io.Writer) error {
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "result.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := writePage(filepath.Join(dir, "index.html"), o); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n%s\n", o, dir)
	return err
}
