package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sync/errgroup"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// PGO is the command that takes the CPU profile by which Go optimises a node. Real nodes run under full load: first one
// node with punches of its own home, then a node that forwards all punches, and the home node that writes them.
type PGO struct {
	Engine string        `help:"Database engine, cockroach or postgres. Default: CockroachDB if it is installed." enum:",cockroach,postgres" default:""`
	Binary string        `help:"The punchclock executable. Default: the one beside this executable, then the PATH." type:"path"`
	Out    string        `help:"Where to write the profile." default:"node/cmd/punchclock/default.pgo" type:"path"`
	For    time.Duration `help:"Length of each of the two loads. A longer profile is a larger file and changes the binary little." default:"20s"`
}

// Run takes the profile.
func (p *PGO) Run(ctx context.Context, out io.Writer) (err error) {
	if err := pinSelf(serverCore); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "punchclock-pgo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := (&Command{Binary: p.Binary, Out: dir, Round: p.For + 2*time.Second}).start(ctx, p.Engine, os.Stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.env.Close(ctx)) }()
	if err := s.pair(ctx); err != nil {
		return err
	}
	east, _ := s.running("us-east")
	entry, home := s.env.Region("us-east")[0], s.env.Region("eu-west")[0]
	var profiles []string
	for _, load := range []struct {
		job   closedJob
		nodes []*cluster.Node
	}{
		{s.closed(east, s.companies("us-east")), []*cluster.Node{entry}},
		{s.closed(east, s.companies("eu-west")), []*cluster.Node{entry, home}},
	} {
		files, err := s.profileNodes(ctx, load.job, load.nodes, p.For)
		if err != nil {
			return err
		}
		profiles = append(profiles, files...)
	}
	if err := p.merge(profiles); err != nil {
		return err
	}
	info, err := os.Stat(p.Out)
	if err == nil {
		fmt.Fprintf(out, "wrote %s, %d kB; the next build uses it\n", p.Out, info.Size()>>10)
	}
	return err
}

// merge writes the sum of the profiles. It leaves out where this machine keeps the binary, because the file is committed.
func (p *PGO) merge(files []string) error {
	list := make([]*profile.Profile, len(files))
	for i, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if list[i], err = profile.ParseData(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	sum, err := profile.Merge(list)
	if err != nil {
		return fmt.Errorf("merge the profiles: %w", err)
	}
	for _, m := range sum.Mapping {
		m.File = filepath.Base(m.File)
	}
	var text bytes.Buffer
	if err := sum.Write(&text); err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	return os.WriteFile(p.Out, text.Bytes(), 0o644)
}

// profileNodes takes a profile of each node while a load runs.
func (s *session) profileNodes(ctx context.Context, j closedJob, nodes []*cluster.Node, length time.Duration) ([]string, error) {
	files := make([]string, len(nodes))
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		_, err := s.generate(ctx, &job{Closed: &j})
		return err
	})
	cluster.Pause(ctx, time.Second) // the load has begun
	for i, n := range nodes {
		files[i] = s.env.Path(fmt.Sprintf("%s-%d.pprof", n.Name, time.Now().UnixNano()))
		work.Go(func() error {
			return s.fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", n.OpsURL, length.Seconds()), files[i])
		})
	}
	return files, work.Wait()
}
