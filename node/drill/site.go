package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sync/errgroup"

	"github.com/punchclock/punchclock/node/cluster"
	"github.com/punchclock/punchclock/node/stage"
)

// site is the cluster that a drill breaks.
type site struct {
	state  stage.State
	victim string // the region that is broken
	// stage is nil for a cluster that somebody else runs.
	stage *stage.Stage
	say   func(format string, args ...any)
	notes []string // what the reader of the result has to know
}

// nodes are those of the victim.
func (s *site) nodes() []*cluster.Node { return s.stage.Region(s.victim) }

func killNode(_ context.Context, s *site) error { return s.nodes()[0].Kill() }

// eachNode does something to all nodes of the victim at once.
func (s *site) eachNode(do func(*cluster.Node) error) error {
	nodes := s.nodes()
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for i, n := range nodes {
		g.Go(func() error {
			errs[i] = do(n)
			return nil
		})
	}
	_ = g.Wait() // the errors of all are in errs
	return errors.Join(errs...)
}

func killRegion(_ context.Context, s *site) error {
	return s.eachNode(func(n *cluster.Node) error { return n.Kill() })
}

// restartRegion starts the nodes of the victim that do not run.
func restartRegion(ctx context.Context, s *site) error {
	return s.eachNode(func(n *cluster.Node) error {
		if n.Running() {
			return nil
		}
		return n.Restart(ctx)
	})
}

// shell is a command of the operator's, who is told which region is meant.
func shell(command string) func(context.Context, *site) error {
	return func(ctx context.Context, s *site) error {
		cmd := exec.CommandContext(ctx, "sh", "-c", command)
		cmd.Env = append(os.Environ(), "PUNCHCLOCK_DRILL_REGION="+s.victim)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr // standard output is for the result
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		return nil
	}
}

func (s *site) close(ctx context.Context) error { return s.stage.Close(ctx) }
