package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gofrs/flock"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/traceview"
)

// Up is `punchclock-lab up`: the demo's cluster, left running.
type Up struct {
	cluster.Setup `embed:""`
	WithoutNodes  []string `help:"Regions whose nodes do not start with the cluster. 'punchclock-lab nodes start' or terraform/local starts them."`
	State         string   `help:"File in which scripts find addresses, database and tokens." default:".run/cluster.json" type:"path"`
	Traces        bool     `help:"Trace every punch, and keep the newest traces in memory."`
}

// Run starts the cluster, writes to out how to use it, and stops it when ctx ends. The end of ctx is no error.
func (c *Up) Run(ctx context.Context, out io.Writer) (err error) {
	release, err := c.claim()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	traced, traces := func(*cluster.Config) {}, ""
	if c.Traces {
		sink, startErr := traceview.Start("127.0.0.1:0", traceview.DefaultConfig())
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, closeSink(ctx, sink)) }()
		traced, traces = traceTo(sink.URL, 1), sink.URL+"/traces"
	}
	env, err := c.Start(ctx, os.Stderr, func(cfg *cluster.Config) {
		cfg.WithoutNodes = c.WithoutNodes
		traced(cfg)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.Close(ctx)) }()
	env.TracesURL = traces
	control, err := env.Serve(c.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	state := env.State()
	if err := c.explain(out, env.Binary, &state); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// claim locks the state file. A second cluster on the same file would replace the description of the first one, and no
// command could reach that any more.
func (c *Up) claim() (release func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(c.State), 0o700); err != nil {
		return nil, fmt.Errorf("--state: %w", err)
	}
	lock := flock.New(c.State + ".lock") // the file stays: two processes could lock two files of one name
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("--state: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("--state: %s describes a cluster that runs; stop it or choose another file", c.State)
	}
	return lock.Close, nil
}

// explain writes the addresses and how to use them.
func (c *Up) explain(out io.Writer, binary string, s *cluster.State) error {
	lab, err := os.Executable()
	if err != nil {
		return err
	}
	var b strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) } // a Builder never fails
	line("database   %s %s", s.Database.Engine, s.Database.Version)
	line("           %s", s.Database.URL)
	for _, n := range s.Nodes {
		if n.PID == 0 {
			line("%-10s %s   not started: terraform/local, or %s nodes start %s", n.Region, n.PublicURL, lab, n.Region)
			continue
		}
		line("%-10s %s   health and metrics %s   log %s", n.Region, n.PublicURL, n.OpsURL, n.Log)
	}
	c.explainTokens(line, s)
	first, last := runningNodes(s)
	line("")
	line("A punch of company %s, and its row:", s.Companies[0].ID)
	line("  TOKEN=%s", s.Companies[0].Token)
	line(`  curl -sH "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \`)
	line(`    -d '{"id":"'$(%s new-id)'","employee":"e1","kind":"in"}' %s/v1/punches`, binary, last.PublicURL)
	line(`  curl -sH "Authorization: Bearer $TOKEN" %s/v1/employees/e1/punches`, first.PublicURL)
	line("A rush, and its audit:")
	line("  %s load --cluster=%s --ledger=ledger.jsonl", lab, c.State)
	line("  %s audit ledger.jsonl --database-url='%s'", lab, s.Database.URL)
	if s.TracesURL != "" {
		line("The newest traces, the punches of 50 ms or longer, and the trace of a receipt by its trace_id:")
		line("  curl -s %s", s.TracesURL)
		line("  curl -s '%s?name=punches&min=50ms'", s.TracesURL)
		line("  curl -s %s/TRACE_ID", s.TracesURL)
	}
	line("")
	line("All of it is in %s, for scripts. Ctrl-C stops everything.", c.State)
	_, err = io.WriteString(out, b.String())
	return err
}

// explainTokens writes one token for each home region. All tokens would fill the screen.
func (c *Up) explainTokens(line func(format string, args ...any), s *cluster.State) {
	line("tokens     one company of each home region; %s has all %d, each with a token for all its employees:", c.State, len(s.Companies))
	for _, region := range s.Regions {
		i := slices.IndexFunc(s.Companies, func(company cluster.Company) bool { return company.Home == region })
		if i >= 0 {
			line("  %-16s home %-10s %s", s.Companies[i].ID, region, s.Companies[i].Token)
		}
	}
}

// runningNodes returns the first and the last node that run. If no node runs yet, it returns any two.
func runningNodes(s *cluster.State) (first, last cluster.NodeState) {
	running := slices.DeleteFunc(slices.Clone(s.Nodes), func(n cluster.NodeState) bool { return n.PID == 0 })
	if len(running) == 0 {
		running = s.Nodes
	}
	return running[0], running[len(running)-1]
}
