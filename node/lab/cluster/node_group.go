package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// NodeGroup describes the nodes of a region that SetNodes starts.
type NodeGroup struct {
	Count int `json:"count"`
	// Binary is the punchclock executable.
	Binary string `json:"binary"`
	// Settings are further settings, with the keys of a settings file. They cannot replace those of the cluster.
	Settings map[string]string `json:"settings,omitempty"`
}

// Say reports progress to a person. It may be called by several goroutines at once.
type Say func(format string, args ...any)

// SetNodes starts and stops nodes of a region until the group describes them. It starts missing nodes at once. Then it
// replaces nodes with another binary or other settings, and nodes that are not ready, one after the other. At last it
// drains surplus nodes. After an error a second call continues where the first one stopped.
func (c *Cluster) SetNodes(ctx context.Context, region string, group NodeGroup, say Say) error {
	if err := c.changes.Acquire(ctx, 1); err != nil {
		return err
	}
	defer c.changes.Release(1)
	nodes, l, err := c.planGroup(region, group)
	if err != nil {
		return err
	}
	var missing, stale []*Node
	for _, n := range nodes[:group.Count] {
		switch {
		case !n.Running():
			missing = append(missing, n)
		case !l.equal(n.launched()) || n.ready(ctx) != nil:
			stale = append(stale, n)
		default:
			say("%s runs already", n.Name)
		}
	}
	if err := forEach(missing, func(n *Node) error { return c.startGroupNode(ctx, n, l, say) }); err != nil {
		return err
	}
	for _, n := range stale {
		// A node that did not stop cleanly is gone as well, and must not be missing.
		if err := errors.Join(stopGroupNode(ctx, n, say), c.startGroupNode(ctx, n, l, say)); err != nil {
			return err
		}
	}
	return forEach(nodes[group.Count:], func(n *Node) error { return stopGroupNode(ctx, n, say) })
}

// RemoveNodes drains and stops all nodes of a region at once, and returns when they are gone. Its error names the log
// of a node that did not stop cleanly, which is gone as well. Without nodes it does nothing.
func (c *Cluster) RemoveNodes(ctx context.Context, region string, say Say) error {
	if err := c.changes.Acquire(ctx, 1); err != nil {
		return err
	}
	defer c.changes.Release(1)
	return forEach(c.Region(region), func(n *Node) error { return stopGroupNode(ctx, n, say) })
}

// planGroup checks a group and returns all nodes of its region.
func (c *Cluster) planGroup(region string, group NodeGroup) ([]*Node, *launch, error) {
	nodes := c.Region(region)
	if len(nodes) == 0 {
		return nil, nil, fmt.Errorf("region %q is none of %s", region, strings.Join(c.Regions(), ", "))
	}
	if group.Count < 1 || group.Count > len(nodes) {
		return nil, nil, fmt.Errorf("%d nodes of %s: the cluster has addresses for 1 to %d", group.Count, region, len(nodes))
	}
	for key := range group.Settings {
		own := func(flag string) bool { return flag == "--"+key || strings.HasPrefix(flag, "--"+key+"=") }
		if slices.ContainsFunc(c.nodeFlags(nodes[0]), own) {
			return nil, nil, fmt.Errorf("setting %s of %s: the cluster sets it, so it cannot be changed", key, region)
		}
	}
	l, err := newLaunch(group.Binary, group.Settings)
	return nodes, l, err
}

func (c *Cluster) startGroupNode(ctx context.Context, n *Node, l *launch, say Say) error {
	sayEnded(n, say)
	began := time.Now()
	c.prepare(n, l) // on the same addresses, which others know already
	if err := n.start(ctx); err != nil {
		return err
	}
	say("%s is ready at %s after %.1f s", n.Name, n.PublicURL, time.Since(began).Seconds())
	return nil
}

// stopGroupNode drains a node. It finishes even when ctx ends, because a drain that is cut off loses what the node has
// not written yet.
func stopGroupNode(ctx context.Context, n *Node, say Say) error {
	if !n.Running() {
		sayEnded(n, say)
		return nil
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.launched().shutdownTimeout())
	defer cancel()
	err := n.Stop(ctx)
	if !n.Running() {
		say("%s is gone after %.1f s: %v", n.Name, time.Since(began).Seconds(), n.current().ending())
	}
	return err
}

// sayEnded reports how a node ended that was not told to end.
func sayEnded(n *Node, say Say) {
	if p := n.current(); p != nil && !p.asked.Swap(true) {
		say("%s had ended by itself: %v; its log is %s", n.Name, p.ending(), n.Logs())
	}
}

// forEach runs do for all nodes at once. An error of one does not stop the others.
func forEach(nodes []*Node, do func(*Node) error) error {
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for i, n := range nodes {
		g.Go(func() error {
			errs[i] = do(n)
			return nil
		})
	}
	_ = g.Wait() // errs holds all errors
	return errors.Join(errs...)
}

// launch is the part of a node's command that SetNodes can change.
type launch struct {
	binary   string
	content  string // a hash of the binary, which may be built again in the same place
	settings map[string]string
}

func newLaunch(binary string, settings map[string]string) (*launch, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	content, err := hashOf(binary)
	return &launch{binary: binary, content: content, settings: settings}, err
}

// equal reports whether two launches run the same node. The place of the binary does not matter.
func (l *launch) equal(other *launch) bool {
	return other != nil && l.content == other.content && maps.Equal(l.settings, other.settings)
}

func (l *launch) flags() (flags []string) {
	for _, key := range slices.Sorted(maps.Keys(l.settings)) {
		flags = append(flags, "--"+key+"="+l.settings[key])
	}
	return flags
}

// defaultShutdownTimeout is a node's --shutdown-timeout when nothing sets it.
const defaultShutdownTimeout = 25 * time.Second

// shutdownTimeout is the time in which a node must be gone: its own limit, and a fifth of it for a busy machine.
func (l *launch) shutdownTimeout() time.Duration {
	own, err := time.ParseDuration(l.settings["shutdown-timeout"])
	if err != nil {
		own = defaultShutdownTimeout // it is not set; a node refuses a wrong value
	}
	return own + own/5
}

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
