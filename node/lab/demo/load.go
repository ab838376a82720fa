package demo

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill"
	"github.com/punchclock/punchclock/node/lab/load"
)

// Load is `punchclock-lab load`: a rush against a cluster that runs.
type Load struct {
	load.Load   `embed:""`
	load.Stress `embed:""`
	Cluster     string `help:"State file with endpoints, companies and tokens, as 'punchclock-lab up' writes it." default:".run/cluster.json" type:"existingfile"`
	Ledger      string `help:"Write a ledger into this new file, for 'punchclock-lab audit'." type:"path"`
	JSON        bool   `help:"Print the result as JSON, with a series of seconds."`
	CAFile      string `name:"ca-file" help:"PEM file with the CA of https endpoints; the system's CAs when empty." type:"existingfile"`
}

// Run sends the rush and writes the result to out.
func (c *Load) Run(ctx context.Context, out io.Writer) error {
	state, err := cluster.ReadState(c.Cluster)
	if err != nil {
		return err
	}
	roots, err := c.roots()
	if err != nil {
		return err
	}
	result, err := rushWithLedger(ctx, load.Config{
		Load: c.Load, Stress: c.Stress, Entries: state.Entries(), Companies: state.Companies,
		Progress: load.ShowProgress(os.Stderr), Processes: load.ProcessesOf(state), Roots: roots,
	}, c.Ledger)
	if err != nil && result.Sent == 0 {
		return err
	}
	return errors.Join(err, c.print(out, &result), result.Void())
}

// roots returns the CA of --ca-file, or nil.
func (c *Load) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca-file: %s contains no certificate", c.CAFile)
	}
	return pool, nil
}

func (c *Load) print(out io.Writer, result *load.Result) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(result)
	}
	_, err := fmt.Fprint(out, result)
	return err
}

// rushWithLedger runs a rush with a ledger in a new file. Without a path there is no ledger.
func rushWithLedger(ctx context.Context, cfg load.Config, path string) (result load.Result, err error) {
	if path == "" {
		return load.Run(ctx, cfg)
	}
	ledger, err := drill.CreateLedger(path)
	if err != nil {
		return load.Result{}, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	cfg.Journal = ledger
	return load.Run(ctx, cfg)
}
