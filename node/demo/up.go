package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/punchclock/punchclock/node/cluster"
	"github.com/punchclock/punchclock/node/stage"
	"github.com/punchclock/punchclock/tracing/tracesink"
)

// Up is `punchclock up`: the demo's cluster, left running.
type Up struct {
	stage.Setup `embed:""`
	State       string `help:"File in which scripts find addresses, database and tokens." default:".run/cluster.json" type:"path"`
	Traces      bool   `help:"Trace every punch, and keep the newest traces in memory to be looked at."`
}

// Run starts the cluster, writes to out how to use it, and stops it when ctx
// ends, which is not an error.
func (c *Up) Run(ctx context.Context, out io.Writer) (err error) {
	var adjust func(*cluster.Config)
	traces := ""
	if c.Traces {
		sink, startErr := tracesink.Start("127.0.0.1:0", tracesink.DefaultConfig())
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, closeSink(ctx, sink)) }()
		adjust, traces = traceTo(sink.URL, 1), sink.URL+"/traces"
	}
	st, err := c.Start(ctx, os.Stderr, adjust)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close(ctx)) }()
	state := st.State()
	state.TracesURL = traces
	if err := state.Write(c.State); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(c.State)) }()
	if err := c.explain(out, st.Binary, &state); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// explain writes what runs where and how to talk to it.
func (c *Up) explain(out io.Writer, binary string, s *stage.State) error {
	var b strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) } // a Builder takes everything
	line("database   %s %s", s.Database.Engine, s.Database.Version)
	line("           %s", s.Database.URL)
	for _, n := range s.Nodes {
		line("%-10s %s   health and metrics %s   log %s", n.Region, n.PublicURL, n.OpsURL, n.Log)
	}
	line("tokens     one per company, each for anybody in it:")
	for _, company := range s.Companies {
		line("  %-16s home %-10s %s", company.ID, company.Home, company.Token)
	}
	line("")
	line("A punch of company %s, and a look at it:", s.Companies[0].ID)
	line("  TOKEN=%s", s.Companies[0].Token)
	line(`  curl -sH "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \`)
	line(`    -d '{"id":"'$(%s id)'","employee":"e1","kind":"in"}' %s/v1/punches`, binary, s.Nodes[len(s.Nodes)-1].PublicURL)
	line(`  curl -sH "Authorization: Bearer $TOKEN" %s/v1/employees/e1/punches`, s.Nodes[0].PublicURL)
	line("A rush, and its audit:")
	line("  %s rush --cluster=%s --ledger=ledger.jsonl", binary, c.State)
	line("  %s audit ledger.jsonl --database-url='%s'", binary, s.Database.URL)
	if s.TracesURL != "" {
		line("The newest traces, those that took longest, and the one of a receipt by its trace_id:")
		line("  curl -s %s", s.TracesURL)
		line("  curl -s '%s?name=punches&min=50ms'", s.TracesURL)
		line("  curl -s %s/TRACE_ID", s.TracesURL)
	}
	line("")
	line("All of it is in %s, for scripts. Ctrl-C stops everything.", c.State)
	_, err := io.WriteString(out, b.String())
	return err
}
