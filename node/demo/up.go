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

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/cluster"
	"github.com/punchclock/punchclock/node/rush"
)

// Up is `punchclock up`: the demo's cluster, left running.
type Up struct {
	Setup `embed:""`
	State string `help:"File in which scripts find addresses, database and tokens." default:".run/cluster.json" type:"path"`
}

// State is a running cluster as scripts and `punchclock rush` see it.
type State struct {
	cluster.State
	Companies []rush.Company `json:"companies"`
}

// Run starts the cluster, writes to out how to use it, and stops it when ctx
// ends, which is not an error.
func (c *Up) Run(ctx context.Context, out io.Writer) (err error) {
	st, err := c.newStage(ctx, os.Stderr, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close(ctx)) }()
	state := State{State: st.State(), Companies: st.companies}
	if err := state.write(c.State); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(c.State)) }()
	if err := c.explain(out, st.binary, &state); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// explain writes what runs where and how to talk to it.
func (c *Up) explain(out io.Writer, binary string, s *State) error {
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
	line("")
	line("All of it is in %s, for scripts. Ctrl-C stops everything.", c.State)
	_, err := io.WriteString(out, b.String())
	return err
}

// write replaces the file at once, readable by its owner alone: tokens are in
// it.
func (s *State) write(path string) error {
	text, err := json.Marshal(s, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}

func readState(path string) (*State, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &s, nil
}

// entries are the endpoints, region by region.
func (s *State) entries() (regions []rush.Region) {
	for _, n := range s.Nodes {
		i := slices.IndexFunc(regions, func(r rush.Region) bool { return r.Name == n.Region })
		if i < 0 {
			i = len(regions)
			regions = append(regions, rush.Region{Name: n.Region})
		}
		regions[i].Endpoints = append(regions[i].Endpoints, n.PublicURL)
	}
	return regions
}
