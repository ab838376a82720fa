package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Nodes is `punchclock-lab nodes`: a region's nodes in a local cluster, run by
// whoever calls it instead of by the cluster. terraform/local does.
type Nodes struct {
	Start startNodes `cmd:"" help:"Bring a region's nodes to a number, a binary and settings: start what is missing, replace what is different one after the other, drain what is too much."`
	Stop  stopNodes  `cmd:"" help:"Drain and stop a region's nodes."`
}

// nodesTimeout is for a dozen nodes that are replaced one after the other on a
// busy machine.
const nodesTimeout = 10 * time.Minute

type startNodes struct {
	Region  string `arg:"" help:"Region of the cluster."`
	Cluster string `help:"File that tells of the cluster, as 'punchclock-lab up' writes it." default:".run/cluster.json" type:"existingfile"`
	Count   int    `help:"How many nodes shall run." default:"2"`
	Binary  string `help:"The punchclock executable that the nodes run. Default: the one beside this executable, then the PATH." type:"path"`
	With    string `help:"Further settings of the nodes: a JSON object, keyed as a settings file." default:"{}"`
}

// Run implements the command.
func (c *startNodes) Run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	state, err := cluster.ReadState(c.Cluster)
	if err != nil {
		return err
	}
	want := cluster.DetachedNodes{Region: c.Region, Count: c.Count, Say: lines(out)}
	if err := json.Unmarshal([]byte(c.With), &want.With); err != nil {
		return fmt.Errorf("--with: must be a JSON object of strings: %w", err)
	}
	if want.Binary, err = cluster.FindBinary(c.Binary); err != nil {
		return err
	}
	return cluster.StartDetached(ctx, state, want)
}

type stopNodes struct {
	Region  string `arg:"" help:"Region of the cluster."`
	Cluster string `help:"File that tells of the cluster; not needed with --dir." default:".run/cluster.json" type:"path"`
	// Nodes are to be stopped when the file is gone, too, and never those of the
	// next cluster.
	Dir string `help:"Folder of the cluster, which its file calls dir; needed when the cluster may be gone." type:"path"`
}

// Run implements the command.
func (c *stopNodes) Run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	if c.Dir == "" {
		state, err := cluster.ReadState(c.Cluster)
		if err != nil {
			return err
		}
		c.Dir = state.Dir
	}
	return cluster.StopDetached(ctx, c.Dir, c.Region, lines(out))
}

// lines writes each as one.
func lines(out io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) {
		_, _ = fmt.Fprintf(out, format+"\n", args...) // only for the eye
	}
}
