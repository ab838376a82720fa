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

// Setup describes an environment as flags.
type Setup struct {
	Engine             string `help:"Database engine, cockroach or postgres. Default: CockroachDB if it is installed." enum:",cockroach,postgres" default:""`
	NodesPerRegion     int    `help:"Nodes in each region." default:"2"`
	CompaniesPerRegion int    `help:"Companies with their home in each region." default:"10"`
	Binary             string `help:"The punchclock executable that the nodes run. Default: the one beside this executable, then the PATH." type:"path"`
	DNSZone            string `help:"Answer DNS for clock.<zone> on every node, such as test. Default: no DNS."`
	KeepDir            bool   `help:"Leave data and logs behind."`
	Verbose            bool   `help:"Log which processes start and stop."`
}

// stopTimeout is a node's own 25 s and some more for the database.
const stopTimeout = 40 * time.Second

// tokenTTL outlasts a day of work with one cluster.
const tokenTTL = 24 * time.Hour

// Environment is a running cluster with companies and their tokens. It runs the product's own commands, as an operator
// does. The caller must Close it.
type Environment struct {
	*Cluster
	Companies     []Company
	OperatorToken string
	TracesURL     string // where the newest traces are, if the cluster collects them
	Binary        string // the punchclock executable
	Say           Say    // reports progress to a person

	dir  string // for files that are not the cluster's: keys, the list of companies, the ledger
	keep bool
}

// Start starts an environment. After an error no process is left. adjust may change the cluster's configuration; it may
// be nil.
func (s *Setup) Start(ctx context.Context, progress io.Writer, adjust func(*Config)) (_ *Environment, err error) {
	if s.CompaniesPerRegion < 1 {
		return nil, fmt.Errorf("--companies-per-region: must be at least 1, is %d", s.CompaniesPerRegion)
	}
	e := &Environment{keep: s.KeepDir, Say: sayTo(progress)}
	if e.Binary, err = FindBinary(s.Binary); err != nil {
		return nil, err
	}
	if e.dir, err = os.MkdirTemp("", "punchclock-lab-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(ctx))
		}
	}()
	if err := e.newKey(ctx); err != nil {
		return nil, err
	}
	e.Say("starting the database and the nodes")
	if e.Cluster, err = Start(ctx, s.config(e, progress, adjust)); err != nil {
		return nil, err
	}
	e.Say("creating companies")
	return e, e.newCompanies(ctx, s.CompaniesPerRegion)
}

func (s *Setup) config(e *Environment, progress io.Writer, adjust func(*Config)) Config {
	cfg := Config{
		Binary: e.Binary, Engine: s.Engine, NodesPerRegion: s.NodesPerRegion, KeepDir: s.KeepDir, DNSZone: s.DNSZone, JWKS: e.Path("jwks.json"),
	}
	if s.Verbose {
		cfg.Log = slog.New(slog.NewTextHandler(progress, nil))
	}
	if adjust != nil {
		adjust(&cfg)
	}
	return cfg
}

// Close stops the cluster and removes the files. It works after ctx has ended, because an interrupted command needs it.
func (e *Environment) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var err error
	if e.Cluster != nil {
		e.Say("stopping")
		err = e.Stop(ctx)
	}
	if e.keep {
		e.Say("kept %s", e.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}

// Keep lets Close leave data, logs and all other files behind, as evidence.
func (e *Environment) Keep() {
	e.keep = true
	e.Cluster.Keep()
}

// State returns the environment as it is now.
func (e *Environment) State() State {
	state := e.Cluster.State()
	state.Companies, state.OperatorToken, state.TracesURL = e.Companies, e.OperatorToken, e.TracesURL
	return state
}

// sayTo returns a function that writes progress with the time since the start.
func sayTo(w io.Writer) Say {
	began := time.Now()
	return func(format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...)) // only for the eye
	}
}

// Path names a file in a folder that Close removes.
func (e *Environment) Path(name string) string { return filepath.Join(e.dir, name) }

// Run runs a subcommand of the punchclock executable and returns its output.
func (e *Environment) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, e.Binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(e.Binary), args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// newKey makes the development key and its key set, which the nodes need at their start.
func (e *Environment) newKey(ctx context.Context) error {
	_, err := e.token(ctx, "unused", "manager", "--new-key", "--jwks="+e.Path("jwks.json"))
	return err
}

// token makes a token that may punch for every employee of a company.
func (e *Environment) token(ctx context.Context, company, role string, more ...string) (string, error) {
	return e.Run(ctx, append([]string{
		"token", "--key-file=" + e.Path("development-key.json"), "--company=" + company,
		"--subject=demo", "--role=" + role, "--ttl=" + tokenTTL.String(),
	}, more...)...)
}

// zones gives each region another offset. Regions that are not listed use UTC.
var zones = map[string]string{"us-east": "America/New_York", "eu-west": "Europe/Berlin", "ap-south": "Asia/Kolkata"}

// newCompanies imports companies from a file. Each region is the home of as many.
func (e *Environment) newCompanies(ctx context.Context, perRegion int) error {
	var list bytes.Buffer
	table := csv.NewWriter(&list)
	rows := [][]string{{"company", "name", "home_region", "time_zone"}}
	for i := range perRegion {
		for _, region := range e.Regions() {
			c := Company{ID: fmt.Sprintf("%s-co%02d", region, i+1), Home: region}
			zone := zones[region]
			if zone == "" {
				zone = "UTC"
			}
			rows = append(rows, []string{c.ID, fmt.Sprintf("Company %d of %s", i+1, region), region, zone})
			e.Companies = append(e.Companies, c)
		}
	}
	if err := table.WriteAll(rows); err != nil {
		return err
	}
	if err := os.WriteFile(e.Path("companies.csv"), list.Bytes(), 0o600); err != nil {
		return err
	}
	if _, err := e.Run(ctx, "company", "import", e.Path("companies.csv"), "--database-url="+e.OperatorURL(e.Regions()[0])); err != nil {
		return err
	}
	return e.newTokens(ctx)
}

func (e *Environment) newTokens(ctx context.Context) (err error) {
	if e.OperatorToken, err = e.token(ctx, e.Companies[0].ID, "operator"); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // short processes: more at once would only slow the nodes down
	for i := range e.Companies {
		g.Go(func() (err error) {
			e.Companies[i].Token, err = e.token(ctx, e.Companies[i].ID, "manager")
			return err
		})
	}
	return g.Wait()
}
