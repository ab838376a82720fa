package demo

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/punchclock/punchclock/node/cluster"
	"github.com/punchclock/punchclock/node/rush"
)

// Setup is the cluster that the demo and `up` run, as flags.
type Setup struct {
	Engine             string `help:"cockroach or postgres; CockroachDB where it is found when empty." enum:",cockroach,postgres" default:""`
	NodesPerRegion     int    `help:"Nodes in each region." default:"2"`
	CompaniesPerRegion int    `help:"Companies with their home in each region." default:"10"`
	Binary             string `help:"The punchclock executable that the nodes run; this one when empty." type:"path"`
	KeepDir            bool   `help:"Leave data and logs behind."`
	Verbose            bool   `help:"Log what is started and stopped."`
}

// stopTimeout is a node's own 25 s and a little for the database.
const stopTimeout = 40 * time.Second

// tokenTTL outlasts a day on which `up` is left running.
const tokenTTL = 24 * time.Hour

// stage is a cluster with companies and tokens. Close it.
type stage struct {
	*cluster.Cluster
	companies []rush.Company

	binary string
	dir    string // for what is not the cluster's: keys, the companies' list, the ledger
	keep   bool
	say    func(format string, args ...any)
}

// newStage starts everything; on an error nothing is left running. env is added
// to the environment of every node.
func (s *Setup) newStage(ctx context.Context, progress io.Writer, env []string) (_ *stage, err error) {
	if s.CompaniesPerRegion < 1 {
		return nil, fmt.Errorf("--companies-per-region: must be at least 1, is %d", s.CompaniesPerRegion)
	}
	st := &stage{binary: s.Binary, keep: s.KeepDir, say: sayTo(progress)}
	if st.binary == "" {
		if st.binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("--binary: %w", err)
		}
	}
	if st.dir, err = os.MkdirTemp("", "punchclock-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.close(ctx))
		}
	}()
	if err := st.newKey(ctx); err != nil {
		return nil, err
	}
	cfg := cluster.Config{
		Binary: st.binary, Engine: s.Engine, NodesPerRegion: s.NodesPerRegion, KeepDir: s.KeepDir, JWKS: st.path("jwks.json"),
		ExtraEnv: func(*cluster.Node) []string { return env },
	}
	if s.Verbose {
		cfg.Log = slog.New(slog.NewTextHandler(progress, nil))
	}
	st.say("starting the database and the nodes")
	if st.Cluster, err = cluster.Start(ctx, cfg); err != nil {
		return nil, err
	}
	st.say("creating companies")
	return st, st.newCompanies(ctx, s.CompaniesPerRegion)
}

// close stops the cluster even when ctx has ended, and removes what was
// written. An interrupted demo takes this way, too.
func (s *stage) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var err error
	if s.Cluster != nil {
		s.say("stopping")
		err = s.Stop(ctx)
	}
	if s.keep {
		s.say("kept %s", s.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// sayTo returns a function that tells a person what goes on, with the time that
// has passed.
func sayTo(w io.Writer) func(format string, args ...any) {
	began := time.Now()
	return func(format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...)) // only for the eye
	}
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// run runs a subcommand of the binary and returns what it printed.
func (s *stage) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(s.binary), args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// newKey makes the development key and its key set before the nodes start.
func (s *stage) newKey(ctx context.Context) error {
	_, err := s.token(ctx, "nobody", "--new-key", "--jwks="+s.path("jwks.json"))
	return err
}

// token prints a token that may punch for, and read of, anybody in a company.
func (s *stage) token(ctx context.Context, company string, more ...string) (string, error) {
	return s.run(ctx, append([]string{
		"token", "--key-file=" + s.path("development-key.json"), "--company=" + company,
		"--subject=demo", "--role=manager", "--ttl=" + tokenTTL.String(),
	}, more...)...)
}

// zones are real ones, so that offsets differ. A region that is not here is in
// UTC.
var zones = map[string]string{"us-east": "America/New_York", "eu-west": "Europe/Berlin", "ap-south": "Asia/Kolkata"}

// newCompanies creates companies with homes in all regions, from a file, as an
// operator would.
func (s *stage) newCompanies(ctx context.Context, perRegion int) error {
	var list bytes.Buffer
	table := csv.NewWriter(&list)
	rows := [][]string{{"company", "name", "home_region", "time_zone"}}
	for i := range perRegion {
		for _, region := range s.Regions() {
			c := rush.Company{ID: fmt.Sprintf("%s-co%02d", region, i+1), Home: region}
			zone := zones[region]
			if zone == "" {
				zone = "UTC"
			}
			rows = append(rows, []string{c.ID, fmt.Sprintf("Company %d of %s", i+1, region), region, zone})
			s.companies = append(s.companies, c)
		}
	}
	if err := table.WriteAll(rows); err != nil {
		return err
	}
	if err := os.WriteFile(s.path("companies.csv"), list.Bytes(), 0o600); err != nil {
		return err
	}
	if _, err := s.run(ctx, "company", "import", s.path("companies.csv"), "--database-url="+s.DatabaseURL(s.Regions()[0])); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // short processes; more at once would only slow the nodes down
	for i := range s.companies {
		g.Go(func() (err error) {
			s.companies[i].Token, err = s.token(ctx, s.companies[i].ID)
			return err
		})
	}
	return g.Wait()
}

// regions are the entries of the rush.
func (s *stage) regions() (regions []rush.Region) {
	for _, name := range s.Regions() {
		r := rush.Region{Name: name}
		for _, n := range s.Region(name) {
			r.Endpoints = append(r.Endpoints, n.PublicURL)
		}
		regions = append(regions, r)
	}
	return regions
}
