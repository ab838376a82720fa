package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Nodes is `punchclock-lab nodes`.
type Nodes struct {
	Start startNodes `cmd:"" help:"Bring a region's nodes to a number, a binary and settings: start missing nodes, replace different ones one after the other, drain surplus ones."`
	Stop  stopNodes  `cmd:"" help:"Drain and stop a region's nodes. Without a running cluster there is nothing to do."`
}

type startNodes struct {
	Region  string `arg:"" help:"Region of the cluster."`
	Cluster string `help:"State file of the cluster, as 'punchclock-lab up' writes it." default:".run/cluster.json" type:"path"`
	Count   int    `help:"How many nodes run." default:"2"`
	Binary  string `help:"The punchclock executable that the nodes run. Default: the one beside this executable, then the PATH." type:"path"`
	With    string `help:"Further settings of the nodes: a JSON object with the keys of a settings file." default:"{}"`
}

// Run implements the command.
func (c *startNodes) Run(ctx context.Context, out io.Writer) (err error) {
	group := cluster.NodeGroup{Count: c.Count}
	if err := json.Unmarshal([]byte(c.With), &group.Settings); err != nil {
		return fmt.Errorf("--with: must be a JSON object of strings: %w", err)
	}
	if group.Binary, err = cluster.FindBinary(c.Binary); err != nil {
		return err
	}
	control, err := cluster.FindController(c.Cluster, "")
	if err != nil {
		return err
	}
	return control.SetNodes(ctx, c.Region, group, lines(out))
}

type stopNodes struct {
	Region string `arg:"" help:"Region of the cluster."`
	ended  `embed:""`
}

// Run implements the command.
func (c *stopNodes) Run(ctx context.Context, out io.Writer) error {
	return c.with(out, func(control *cluster.Controller) error { return control.RemoveNodes(ctx, c.Region, lines(out)) })
}

// ended finds a cluster that may be gone. Its processes are then gone as well, and there is nothing to stop.
type ended struct {
	Cluster string `help:"State file of the cluster." default:".run/cluster.json" type:"path"`
	// The next cluster has the same file, and its nodes must stay.
	Dir string `help:"Folder of the cluster, the key dir of its state file. Stop nothing if the file describes another cluster." type:"path"`
}

func (c *ended) with(out io.Writer, do func(*cluster.Controller) error) error {
	control, err := cluster.FindController(c.Cluster, c.Dir)
	if err == nil {
		err = do(control)
	}
	if errors.Is(err, cluster.ErrGone) {
		_, err = fmt.Fprintf(out, "nothing to stop: %v\n", err)
	}
	return err
}

// lines writes each step as a line.
func lines(out io.Writer) cluster.Say {
	return func(format string, args ...any) {
		_, _ = fmt.Fprintf(out, format+"\n", args...) // only for the eye
	}
}
