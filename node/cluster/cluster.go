package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Cluster is a running cluster.
type Cluster struct {
	// Database is what the cluster started, nil when it was given one.
	Database *Database

	cfg   Config
	ws    *workspace
	nodes []*Node // by region, in the order of cfg.Regions

	proxies map[string]*Proxy // by region, nil without them

	seeds      []string // gossip addresses, one node per region
	label      string   // keeps nodes of other clusters out of the gossip
	keyFile    string
	secretFile string
}

// Start runs a database, migrates it and runs the nodes; it returns when all of
// them are ready. ctx bounds the start only: the cluster runs until Stop, or
// until this process dies. When Start fails nothing is left running, and the
// error names the logs.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg, err := cfg.forNodes()
	if err != nil {
		return nil, err
	}
	var engine Engine
	if cfg.DatabaseURL == "" {
		if engine, err = FindEngine(cfg.Engine); err != nil {
			return nil, err
		}
	}
	ws, err := newWorkspace(cfg)
	if err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, ws: ws, label: filepath.Base(ws.dir)}
	if err := c.bringUp(ctx, engine); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		_ = c.halt(stop) // why the start failed is worth telling, what follows from it is not
		return nil, ws.abandon(ctx, err)
	}
	return c, nil
}

func (c *Cluster) bringUp(ctx context.Context, engine Engine) (err error) {
	if engine.Name != "" {
		if c.Database, err = startDatabase(ctx, c.cfg, engine, c.ws); err != nil {
			return err
		}
	}
	if err := c.Migrate(ctx); err != nil {
		return err
	}
	if err := c.writeSecrets(); err != nil {
		return err
	}
	if c.cfg.Proxies {
		if err := c.startProxies(); err != nil {
			return err
		}
	}
	if err := c.planNodes(); err != nil {
		return err
	}
	return c.startNodes(ctx)
}

// Migrate runs `punchclock migrate` on the database. Start has done so already.
func (c *Cluster) Migrate(ctx context.Context) error {
	began := time.Now()
	err := c.ws.spawner.run(ctx, command{
		name:       "migrate",
		path:       c.cfg.Binary,
		args:       []string{"migrate", "--database-url=" + c.DatabaseURL(c.cfg.Regions[0]), "--regions=" + strings.Join(c.cfg.Regions, ",")},
		env:        environment("PUNCHCLOCK_"),
		log:        c.ws.logFile("migrate"),
		lastSignal: syscall.SIGKILL,
	})
	if err == nil {
		c.ws.log.Info("database migrated", "took", time.Since(began))
	}
	return err
}

// writeSecrets makes the files that the nodes share.
func (c *Cluster) writeSecrets() error {
	c.keyFile, c.secretFile = filepath.Join(c.ws.dir, "gossip.key"), filepath.Join(c.ws.dir, "peer.secret")
	for _, file := range []string{c.keyFile, c.secretFile} {
		secret := make([]byte, 32) // memberlist's largest key
		_, _ = rand.Read(secret)   // never fails, says its documentation
		if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	return nil
}

// planNodes chooses everyone's addresses before anyone starts, since the
// gossip seeds are among them.
func (c *Cluster) planNodes() error {
	for _, region := range c.cfg.Regions {
		for i := range c.cfg.NodesPerRegion {
			n := &Node{Region: region, Name: fmt.Sprintf("%s-n%d", region, i+1), number: i, ws: c.ws}
			if err := c.assign(n); err != nil {
				return err
			}
			c.nodes = append(c.nodes, n)
			if i == 0 {
				c.seeds = append(c.seeds, n.GossipAddr)
			}
		}
	}
	return nil
}

// assign gives a node free addresses. What clients are told by DNS is the node's
// own; all else is on its region's.
func (c *Cluster) assign(n *Node) error {
	region := 1 + slices.Index(c.cfg.Regions, n.Region)
	addrs, err := c.ws.pick(c.ws.nodeHost(region, n.number), 1)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	private, err := c.ws.pick(c.ws.host(region), 4)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	addrs = append(addrs, private...)
	if c.cfg.DNSZone != "" {
		n.DNSAddr = addrs[4]
	}
	n.PublicURL, n.OpsURL, n.PeerAddr, n.GossipAddr = "http://"+addrs[0], "http://"+addrs[1], addrs[2], addrs[3]
	return nil
}

// startNodes starts all nodes at once and returns when all are ready.
func (c *Cluster) startNodes(ctx context.Context) error {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range c.nodes {
		g.Go(func() error { return c.startNode(ctx, n) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.ws.log.Info("nodes ready", "nodes", len(c.nodes), "took", time.Since(began))
	return nil
}

// startNode starts a node, on other addresses when somebody has taken one of
// its own. The others then know a seed less; a node that starts finds them by
// its own seeds.
func (c *Cluster) startNode(ctx context.Context, n *Node) error {
	for attempt := 1; ; attempt++ {
		n.command = command{
			name:       "node " + n.Name,
			path:       c.cfg.Binary,
			args:       c.flags(n, strings.TrimPrefix(n.Name, n.Region+"-")),
			env:        environment("PUNCHCLOCK_"), // a setting of ours is not one of theirs
			log:        c.ws.logFile(n.Name),
			lastSignal: syscall.SIGKILL, // reaches a frozen one too
			region:     1 + slices.Index(c.cfg.Regions, n.Region),
		}
		if c.cfg.ExtraEnv != nil {
			n.command.env = append(n.command.env, c.cfg.ExtraEnv(n)...)
		}
		err := n.start(ctx)
		if err == nil || ctx.Err() != nil || attempt == startAttempts || !c.ws.taken(address(n.PublicURL), address(n.OpsURL), n.PeerAddr, n.GossipAddr, cmp.Or(n.DNSAddr, n.GossipAddr)) {
			return err
		}
		c.ws.log.Warn("a port of the node was taken by another process; trying others", "node", n.Name, "attempt", attempt)
		if err := c.assign(n); err != nil {
			return err
		}
	}
}

// Nodes returns all nodes, region by region.
func (c *Cluster) Nodes() []*Node { return slices.Clone(c.nodes) }

// Region returns the nodes of a region, none when there is no such region.
func (c *Cluster) Region(name string) []*Node {
	return slices.DeleteFunc(c.Nodes(), func(n *Node) bool { return n.Region != name })
}

// Regions returns the names of the regions, the primary one first.
func (c *Cluster) Regions() []string { return slices.Clone(c.cfg.Regions) }

// DatabaseURL returns the connection URL that the nodes of a region use.
func (c *Cluster) DatabaseURL(region string) string {
	if c.Database == nil {
		return c.cfg.DatabaseURL
	}
	return c.Database.URL(region)
}

// GossipKeyFile is the keyring file that all nodes read.
func (c *Cluster) GossipKeyFile() string { return c.keyFile }

// Dir is the folder with data/ and logs/.
func (c *Cluster) Dir() string { return c.ws.dir }

// Keep leaves the folder behind when the cluster is stopped, as a test that has
// failed wants it.
func (c *Cluster) Keep() { c.ws.keep.Store(true) }

// Stop stops all nodes at once and then the database, and removes the folder
// unless that is to be kept. What does not stop before ctx ends is killed. It
// is an error that names the logs when a node did not stop cleanly or had ended
// before by itself. A second Stop does nothing.
func (c *Cluster) Stop(ctx context.Context) error { return c.ws.close(c.halt(ctx)) }

func (c *Cluster) halt(ctx context.Context) error {
	errs := make([]error, len(c.nodes))
	var g errgroup.Group
	for i, n := range c.nodes {
		g.Go(func() error {
			if p := n.current(); p != nil && p.exited() && !p.asked.Swap(true) {
				errs[i] = p.failure(fmt.Errorf("ended by itself: %w", p.ending()))
				return nil
			}
			errs[i] = n.Stop(ctx)
			return nil
		})
	}
	_ = g.Wait() // the errors of all are in errs
	errs = append(errs, c.closeProxies())
	if c.Database != nil {
		// The database has its own time: it must not be left running because
		// the nodes have used theirs up.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		errs = append(errs, c.Database.halt(ctx))
	}
	return errors.Join(errs...)
}
