package demo

import (
	"context"
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
	load.Load `embed:""`
	Cluster   string `help:"State file with endpoints, companies and tokens, as 'punchclock-lab up' writes it." default:".run/cluster.json" type:"existingfile"`
	Ledger    string `help:"Write a ledger into this new file, for 'punchclock-lab audit'." type:"path"`
	JSON      bool   `help:"Print the result as JSON."`
}

// Run sends the rush and writes the result to out.
func (c *Load) Run(ctx context.Context, out io.Writer) error {
	state, err := cluster.ReadState(c.Cluster)
	if err != nil {
		return err
	}
	result, err := rushWithLedger(ctx, load.Config{
		Load: c.Load, Entries: state.Entries(), Companies: state.Companies, Progress: load.ShowProgress(os.Stderr),
	}, c.Ledger)
	if err != nil && result.Sent == 0 {
		return err
	}
	return errors.Join(err, c.print(out, &result), result.Void())
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
