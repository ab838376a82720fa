package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// DetachedNodes is what StartDetached makes true.
type DetachedNodes struct {
	Region string
	// Count is how many of the nodes that the cluster has planned for the
	// region shall run.
	Count int
	// Binary is the punchclock executable that they run.
	Binary string
	// With are further settings of theirs, keyed as in a settings file. Those
	// that the cluster gives them cannot be changed.
	With map[string]string
	// Say is told what was done, for people; at the same time by several.
	Say func(format string, args ...any)
}

// StartDetached lets nodes of a region run on their own: they outlive this
// process, until StopDetached or the end of the cluster that s tells of. It
// starts those that do not run, all at once, and then replaces those that run
// another binary or with other settings, or are not ready, one after the other:
// each is drained before and ready afterwards. Nodes beyond the count are
// drained and stopped last. What is so already stays untouched.
//
// It goes no farther after a node that does not come up, which is ended, or that
// did not stop cleanly, which has its successor then; called again it goes on
// from there.
func StartDetached(ctx context.Context, s *State, want DetachedNodes) error {
	nodes, err := want.plan(s)
	if err != nil {
		return err
	}
	r, err := openRegion(ctx, s.Dir, nodesFolder, want.Region, true, want.Say)
	if err != nil {
		return err
	}
	defer r.close()
	var missing, stale []*daemon
	for _, d := range nodes {
		d.place(filepath.Join(r.folder, d.Name))
		switch alive, err := d.alive(); {
		case err != nil:
			return err
		case !alive:
			missing = append(missing, d)
		case d.runs() != d.Version || d.ready(ctx) != nil:
			stale = append(stale, d)
		default:
			r.say("%s runs already", d.Name)
		}
	}
	if err := r.startAll(ctx, missing); err != nil {
		return err
	}
	for _, d := range stale {
		if err := r.replace(ctx, d); err != nil {
			return err
		}
	}
	return r.stopAll(ctx, func(name string) bool {
		return !slices.ContainsFunc(nodes, func(d *daemon) bool { return d.Name == name })
	})
}

// StopDetached drains and stops all nodes of a region that StartDetached has
// started in the cluster whose folder is dir, at once, and returns when they
// are gone. It is an error that names the log when one did not stop cleanly; it
// is gone nevertheless. Where none runs there is nothing to do.
func StopDetached(ctx context.Context, dir, region string, say func(format string, args ...any)) error {
	r, err := openRegion(ctx, dir, nodesFolder, region, false, say)
	if r == nil || err != nil {
		return err
	}
	defer r.close()
	if err := r.stopAll(ctx, func(string) bool { return true }); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(r.folder, endedFile)) // no error where it is not there
}

// plan returns the nodes that shall run.
func (want *DetachedNodes) plan(s *State) (nodes []*daemon, err error) {
	if !slices.Contains(s.Regions, want.Region) {
		return nil, fmt.Errorf("region %q is none of %s", want.Region, strings.Join(s.Regions, ", "))
	}
	if s.Gone() {
		return nil, fmt.Errorf("the cluster is gone: its process %d does not run", s.PID)
	}
	binary, err := filepath.Abs(want.Binary)
	if err != nil {
		return nil, err
	}
	content, err := hashOf(binary)
	if err != nil {
		return nil, err
	}
	planned := slices.DeleteFunc(slices.Clone(s.Nodes), func(n NodeState) bool { return n.Region != want.Region })
	if want.Count < 1 || want.Count > len(planned) {
		return nil, fmt.Errorf("%d nodes of %s: the cluster has addresses for 1 to %d", want.Count, want.Region, len(planned))
	}
	for _, n := range planned[:want.Count] {
		d, err := n.daemon(binary, content, want.With)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, d)
	}
	return nodes, nil
}

// daemon is the node as a process that runs a binary of that content, with
// further settings.
func (n *NodeState) daemon(binary, content string, with map[string]string) (*daemon, error) {
	if len(n.Settings) == 0 {
		return nil, fmt.Errorf("the cluster's file has no settings for %s", n.Name)
	}
	settings := maps.Clone(n.Settings)
	for key, value := range with {
		if _, both := settings[key]; both {
			return nil, fmt.Errorf("setting %s of %s is the cluster's to give", key, n.Name)
		}
		settings[key] = value
	}
	d := &daemon{
		Name: n.Name, Binary: binary, Env: n.Env, Log: n.Log, Patience: patience(settings), settings: settings,
		addrs: []string{address(n.PublicURL), address(n.OpsURL), n.PeerAddr, n.GossipAddr},
		where: n.PublicURL, ready: n.ready,
	}
	if n.DNSAddr != "" {
		d.addrs = append(d.addrs, n.DNSAddr)
	}
	var err error
	d.Version, err = d.version(content)
	return d, err
}

// ready asks the node whether it takes punches, or would if its region were not
// evacuated: to replace it would help nobody. It is on loopback, as its cluster
// is, and a kept connection would hold up its stop.
func (n *NodeState) ready(ctx context.Context) error {
	err := ready(ctx, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, n.OpsURL)
	if errors.Is(err, errEvacuated) {
		return nil
	}
	return err
}

// ownStop is a node's --shutdown-timeout when it is given none.
const ownStop = 25 * time.Second

// patience is how long a node may take to be gone: its own time to stop, and a
// fifth of that for a busy machine.
func patience(settings map[string]string) time.Duration {
	own, err := time.ParseDuration(settings["shutdown-timeout"])
	if err != nil {
		own = ownStop // not set; one that is wrong the node refuses
	}
	return own + own/5
}

// place gives a node's process its folder, where its settings file lies.
func (d *daemon) place(folder string) {
	d.folder = folder
	d.Args = []string{"node", "--settings", d.path("settings.yaml")}
}

// hashOf returns a hash of a file's content.
func hashOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// version is the same for two nodes that need not replace each other.
func (d *daemon) version(binary string) (string, error) {
	text, err := json.Marshal(map[string]any{"binary": binary, "settings": d.settings, "env": d.Env})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// In the cluster's folder, with a folder for each region.
const (
	nodesFolder   = "detached"
	serversFolder = "servers"
)

// regionFolder is where the detached nodes of a region, or its server of the
// database, have their folders, while one caller at a time works on them.
type regionFolder struct {
	folder  string
	release func() error
	say     func(format string, args ...any)
}

// openRegion waits for whoever works on the region, until ctx ends. Without
// create it returns nil where no node was ever started.
func openRegion(ctx context.Context, dir, kind, region string, create bool, say func(format string, args ...any)) (*regionFolder, error) {
	if !regionName.MatchString(region) {
		return nil, fmt.Errorf("region %q does not match %s", region, regionName)
	}
	folder := filepath.Join(dir, kind, region)
	if _, err := os.Stat(dir); err != nil && create {
		return nil, fmt.Errorf("the cluster is gone: %w", err)
	}
	if create {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
	}
	release, err := Await(ctx, filepath.Join(folder, ".lock"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil //nolint:nilnil // there is nothing, and that is fine
	case err != nil:
		return nil, fmt.Errorf("region %s: %w", region, err)
	}
	return &regionFolder{folder: folder, release: release, say: say}, nil
}

func (r *regionFolder) close() { _ = r.release() } // nothing was written

func (r *regionFolder) startAll(ctx context.Context, nodes []*daemon) error {
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for i, d := range nodes {
		g.Go(func() error {
			errs[i] = r.start(ctx, d)
			return nil
		})
	}
	_ = g.Wait() // the errors of all are in errs: one that fails must not end the others
	return errors.Join(errs...)
}

// replace puts a new process in a node's place. One that did not stop cleanly
// is gone, too, and must not be missing as well.
func (r *regionFolder) replace(ctx context.Context, d *daemon) error {
	old, err := readDaemon(d.folder) // its own time to stop and its own log
	if err != nil {
		return err
	}
	stopped := r.stop(ctx, old)
	if alive, err := d.alive(); alive || err != nil {
		return errors.Join(stopped, err)
	}
	return errors.Join(stopped, r.start(ctx, d))
}

func (r *regionFolder) start(ctx context.Context, d *daemon) error {
	r.sayEnded(d)
	began := time.Now()
	if err := d.start(ctx); err != nil {
		return err
	}
	r.say("%s is ready at %s after %.1f s", d.Name, d.where, time.Since(began).Seconds())
	return nil
}

// stop ends one node and forgets it.
func (r *regionFolder) stop(ctx context.Context, d *daemon) error {
	began := time.Now()
	if alive, err := d.alive(); err != nil {
		return err
	} else if !alive {
		r.sayEnded(d)
		return os.RemoveAll(d.folder)
	}
	err := d.stop(ctx)
	if alive, _ := d.alive(); alive {
		return err
	}
	status, _ := d.ending()
	r.say("%s is gone after %.1f s: %s", d.Name, time.Since(began).Seconds(), status)
	return errors.Join(err, os.RemoveAll(d.folder))
}

// sayEnded says of a node that is not there how it went, if it ever was.
func (r *regionFolder) sayEnded(d *daemon) {
	if status, ended := d.ending(); ended {
		r.say("%s had ended by itself: %s; its log is %s", d.Name, status, d.Log)
	}
}

// stopAll ends those of the region's nodes that are meant, at once.
func (r *regionFolder) stopAll(ctx context.Context, meant func(name string) bool) error {
	names := slices.DeleteFunc(foldersIn(r.folder), func(name string) bool { return !meant(name) })
	errs := make([]error, len(names))
	var g errgroup.Group
	for i, name := range names {
		g.Go(func() error {
			d, err := readDaemon(filepath.Join(r.folder, name))
			switch {
			case err == nil:
				err = r.stop(ctx, d)
			case errors.Is(err, os.ErrNotExist): // who wanted to start it came no farther
				err = os.RemoveAll(filepath.Join(r.folder, name))
			}
			errs[i] = err
			return nil
		})
	}
	_ = g.Wait() // the errors of all are in errs
	return errors.Join(errs...)
}

// foldersIn returns the names of the folders in one; none where that is missing.
func foldersIn(folder string) (names []string) {
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// settings are a node's flags as the keys of a settings file. Of a flag that is
// there twice the last counts, as on the command line.
func (c *Cluster) settings(n *Node) map[string]string {
	settings := make(map[string]string)
	for _, flag := range c.flags(n, strings.TrimPrefix(n.Name, n.Region+"-"))[1:] {
		key, value, given := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if !given {
			value = "true"
		}
		settings[key] = value
	}
	return settings
}

func (c *Cluster) extraEnv(n *Node) []string {
	if c.cfg.ExtraEnv == nil {
		return nil
	}
	return c.cfg.ExtraEnv(n)
}
