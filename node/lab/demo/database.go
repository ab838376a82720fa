package demo

import (
	"context"
	"io"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Database is `punchclock-lab database`.
type Database struct {
	Start startServer `cmd:"" help:"Start the database server of a region that is new to the cluster. 'punchclock region add' comes next."`
	Stop  stopServer  `cmd:"" help:"Decommission and stop the database server of such a region, after 'punchclock region remove'. Without a running cluster there is nothing to do."`
}

type startServer struct {
	Region  string `arg:"" help:"Region that gets a server."`
	Cluster string `help:"State file of the cluster, as 'punchclock-lab up' writes it. The region is added to it." default:".run/cluster.json" type:"path"`
}

// Run implements the command.
func (c *startServer) Run(ctx context.Context, out io.Writer) error {
	control, err := cluster.FindController(c.Cluster, "")
	if err != nil {
		return err
	}
	return control.AddServer(ctx, c.Region, lines(out))
}

type stopServer struct {
	Region string `arg:"" help:"Region whose server is stopped."`
	ended  `embed:""`
}

// Run implements the command.
func (c *stopServer) Run(ctx context.Context, out io.Writer) error {
	return c.with(out, func(control *cluster.Controller) error { return control.RemoveServer(ctx, c.Region, lines(out)) })
}
