package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Database is `punchclock-lab database`: the server of a region that a local cluster
// did not begin with. terraform/local calls it.
type Database struct {
	Start startServer `cmd:"" help:"Start the database's server of a region that is new to the cluster, with certificates of its own. 'punchclock region add' comes next."`
	Stop  stopServer  `cmd:"" help:"Decommission and stop the database's server of such a region, after 'punchclock region remove'."`
}

type startServer struct {
	Region  string `arg:"" help:"Region that gets a server."`
	Cluster string `help:"File that tells of the cluster, as 'punchclock-lab up' writes it. The region is written to it." default:".run/cluster.json" type:"existingfile"`
}

// Run implements the command.
func (c *startServer) Run(ctx context.Context, out io.Writer) error {
	return withCluster(ctx, c.Cluster, func(ctx context.Context, s *cluster.State) error {
		return cluster.StartServer(ctx, s, c.Region, lines(out))
	})
}

type stopServer struct {
	Region  string `arg:"" help:"Region whose server is stopped."`
	Cluster string `help:"File that tells of the cluster. The region is taken from it." default:".run/cluster.json" type:"path"`
	// The file may be gone, or tell of the next cluster.
	Dir string `help:"Folder of the cluster, which its file calls dir; needed when the cluster may be gone." type:"path"`
}

// Run implements the command.
func (c *stopServer) Run(ctx context.Context, out io.Writer) error {
	state, err := cluster.ReadState(c.Cluster)
	switch {
	case err != nil && (c.Dir == "" || !errors.Is(err, os.ErrNotExist)):
		return err
	case err == nil && c.Dir == "":
		c.Dir = state.Dir
	}
	if err != nil || state.Dir != c.Dir || state.Gone() {
		return cluster.StopServer(ctx, c.Dir, nil, c.Region, lines(out))
	}
	return withCluster(ctx, c.Cluster, func(ctx context.Context, s *cluster.State) error {
		return cluster.StopServer(ctx, s.Dir, s, c.Region, lines(out))
	})
}

// withCluster lets do change what tells of a cluster; one at a time may. What an
// error leaves behind is not written: the next try begins where this one did.
func withCluster(ctx context.Context, path string, do func(context.Context, *cluster.State) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	state, err := cluster.ReadState(path)
	if err != nil {
		return err
	}
	release, err := cluster.Await(ctx, filepath.Join(state.Dir, "regions.lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if state, err = cluster.ReadState(path); err != nil { // as whoever had the lock has left it
		return err
	}
	if err := do(ctx, state); err != nil {
		return err
	}
	return state.Write(path)
}
