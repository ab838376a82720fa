package cluster

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
)

// Setup is the cluster that is run, as flags.
type Setup struct {
	Engine             string `help:"cockroach or postgres; CockroachDB where it is found when empty." enum:",cockroach,postgres" default:""`
	NodesPerRegion     int    `help:"Nodes in each region." default:"2"`
	CompaniesPerRegion int    `help:"Companies with their home in each region." default:"10"`
	Binary             string `help:"The punchclock executable that the nodes run. Default: the one beside this executable, then the PATH." type:"path"`
	DNSZone            string `help:"Answer DNS for clock.<zone> on every node, such as test; not at all when empty."`
	KeepDir            bool   `help:"Leave data and logs behind."`
	Verbose            bool   `help:"Log what is started and stopped."`
}

// stopTimeout is a node's own 25 s and a little for the database.
const stopTimeout = 40 * time.Second

// tokenTTL outlasts a day on which `up` is left running.
const tokenTTL = 24 * time.Hour

// Environment is a running cluster with companies and tokens. Close it.
type Environment struct {
	*Cluster
	Companies     []Company
	OperatorToken string
	TracesURL     string // where the newest traces are, if the cluster collects them
	// Binary is the punchclock executable.
	Binary string
	// Say tells a person what goes on.
	Say func(format string, args ...any)

	dir  string // for what is not the cluster's: keys, the companies' list, the ledger
	keep bool
}

// Start starts everything; on an error nothing is left running. adjust, which
// may be nil, has the last word on the cluster's configuration.
func (s *Setup) Start(ctx context.Context, progress io.Writer, adjust func(*Config)) (_ *Environment, err error) {
	if s.CompaniesPerRegion < 1 {
		return nil, fmt.Errorf("--companies-per-region: must be at least 1, is %d", s.CompaniesPerRegion)
	}
	st := &Environment{keep: s.KeepDir, Say: sayTo(progress)}
	if st.Binary, err = FindBinary(s.Binary); err != nil {
		return nil, err
	}
	if st.dir, err = os.MkdirTemp("", "punchclock-stage-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Close(ctx))
		}
	}()
	if err := st.newKey(ctx); err != nil {
		return nil, err
	}
	st.Say("starting the database and the nodes")
	if st.Cluster, err = Start(ctx, s.config(st, progress, adjust)); err != nil {
		return nil, err
	}
	st.Say("creating companies")
	return st, st.newCompanies(ctx, s.CompaniesPerRegion)
}

func (s *Setup) config(st *Environment, progress io.Writer, adjust func(*Config)) Config {
	cfg := Config{
		Binary: st.Binary, Engine: s.Engine, NodesPerRegion: s.NodesPerRegion, KeepDir: s.KeepDir, DNSZone: s.DNSZone, JWKS: st.Path("jwks.json"),
	}
	if s.Verbose {
		cfg.Log = slog.New(slog.NewTextHandler(progress, nil))
	}
	if adjust != nil {
		adjust(&cfg)
	}
	return cfg
}

// Close stops the cluster even when ctx has ended, and removes what was
// written. An interrupted command takes this way, too.
func (s *Environment) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var err error
	if s.Cluster != nil {
		s.Say("stopping")
		err = s.Stop(ctx)
	}
	if s.keep {
		s.Say("kept %s", s.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Keep leaves data, logs and all else behind, as evidence.
func (s *Environment) Keep() {
	s.keep = true
	s.Cluster.Keep()
}

// sayTo returns a function that tells a person what goes on, with the time that
// has passed.
func sayTo(w io.Writer) func(format string, args ...any) {
	began := time.Now()
	return func(format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...)) // only for the eye
	}
}

// Path names a file in a folder that goes away with the stage.
func (s *Environment) Path(name string) string { return filepath.Join(s.dir, name) }

// Run runs a subcommand of the binary and returns what it printed.
func (s *Environment) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.Binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(s.Binary), args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// newKey makes the development key and its key set before the nodes start.
func (s *Environment) newKey(ctx context.Context) error {
	_, err := s.token(ctx, "nobody", "manager", "--new-key", "--jwks="+s.Path("jwks.json"))
	return err
}

// token prints a token for anybody in a company.
func (s *Environment) token(ctx context.Context, company, role string, more ...string) (string, error) {
	return s.Run(ctx, append([]string{
		"token", "--key-file=" + s.Path("development-key.json"), "--company=" + company,
		"--subject=demo", "--role=" + role, "--ttl=" + tokenTTL.String(),
	}, more...)...)
}

// zones are real ones, so that offsets differ. A region that is not here is in
// UTC.
var zones = map[string]string{"us-east": "America/New_York", "eu-west": "Europe/Berlin", "ap-south": "Asia/Kolkata"}

// newCompanies creates companies with homes in all regions, from a file, as an
// operator would.
func (s *Environment) newCompanies(ctx context.Context, perRegion int) error {
	var list bytes.Buffer
	table := csv.NewWriter(&list)
	rows := [][]string{{"company", "name", "home_region", "time_zone"}}
	for i := range perRegion {
		for _, region := range s.Regions() {
			c := Company{ID: fmt.Sprintf("%s-co%02d", region, i+1), Home: region}
			zone := zones[region]
			if zone == "" {
				zone = "UTC"
			}
			rows = append(rows, []string{c.ID, fmt.Sprintf("Company %d of %s", i+1, region), region, zone})
			s.Companies = append(s.Companies, c)
		}
	}
	if err := table.WriteAll(rows); err != nil {
		return err
	}
	if err := os.WriteFile(s.Path("companies.csv"), list.Bytes(), 0o600); err != nil {
		return err
	}
	if _, err := s.Run(ctx, "company", "import", s.Path("companies.csv"), "--database-url="+s.OperatorURL(s.Regions()[0])); err != nil {
		return err
	}
	var err error
	if s.OperatorToken, err = s.token(ctx, s.Companies[0].ID, "operator"); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // short processes; more at once would only slow the nodes down
	for i := range s.Companies {
		g.Go(func() (err error) {
			s.Companies[i].Token, err = s.token(ctx, s.Companies[i].ID, "manager")
			return err
		})
	}
	return g.Wait()
}

// State returns the environment as it is now.
func (s *Environment) State() State {
	state := s.Cluster.State()
	state.Companies, state.OperatorToken, state.TracesURL = s.Companies, s.OperatorToken, s.TracesURL
	return state
}
