package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

	seeds   []string // gossip addresses, one node per region
	keyFile string
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
	c := &Cluster{cfg: cfg, ws: ws}
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
	if err := c.writeGossipKey(); err != nil {
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

// planNodes chooses everyone's addresses before anyone starts, since the
// gossip seeds are among them.
func (c *Cluster) planNodes() error {
	for _, region := range c.cfg.Regions {
		if err := c.planRegion(region, c.cfg.NodesPerRegion); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) planRegion(region string, nodes int) error {
	for i := range nodes {
		n := &Node{Region: region, Name: fmt.Sprintf("%s-n%d", region, i+1), number: i, ws: c.ws}
		if err := c.assign(n); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
		if i == 0 {
			c.seeds = append(c.seeds, n.GossipAddr)
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
	n.PublicURL, n.OpsURL, n.PeerAddr, n.GossipAddr = "http://"+addrs[0], opsURL(addrs[1]), addrs[2], addrs[3]
	return nil
}

// startNodes starts all nodes that are ours to start at once and returns when
// all are ready.
func (c *Cluster) startNodes(ctx context.Context) error {
	began := time.Now()
	ours := slices.DeleteFunc(c.Nodes(), func(n *Node) bool { return slices.Contains(c.cfg.WithoutNodes, n.Region) })
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range ours {
		g.Go(func() error { return c.startNode(ctx, n) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.ws.log.Info("nodes ready", "nodes", len(ours), "took", time.Since(began))
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
		n.command.env = append(n.command.env, c.extraEnv(n)...)
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

// DatabaseURL returns a connection URL for looking after the database from a
// region, as its superuser. The nodes have a role of their own.
func (c *Cluster) DatabaseURL(region string) string {
	if c.Database == nil {
		return c.cfg.DatabaseURL
	}
	return c.Database.URL(region)
}

// GossipKeyFile is the keyring file that all nodes read.
func (c *Cluster) GossipKeyFile() string { return c.keyFile }

// OperatorURL is DatabaseURL for the commands that manage companies, as the role
// that may do no more than that.
func (c *Cluster) OperatorURL(region string) string {
	if c.Database == nil {
		return c.cfg.DatabaseURL
	}
	return c.Database.URLAs(operatorUser, DatabaseName, region)
}

// Dir is the folder with data/, logs/ and certs/.
func (c *Cluster) Dir() string { return c.ws.dir }

// Keep leaves the folder behind when the cluster is stopped, as a test that has
// failed wants it.
func (c *Cluster) Keep() { c.ws.keep.Store(true) }

// Stop stops all nodes at once, those that StartDetached has started as well,
// and then the database with the servers of StartServer, and removes the folder unless that is to be kept. What
// does not stop before ctx ends is killed. It is an error that names the logs
// when a node did not stop cleanly or had ended before by itself. A second Stop
// does nothing.
func (c *Cluster) Stop(ctx context.Context) error { return c.ws.close(c.halt(ctx)) }

func (c *Cluster) say(format string, args ...any) { c.ws.log.Info(fmt.Sprintf(format, args...)) }

func (c *Cluster) halt(ctx context.Context) error {
	detached := foldersIn(filepath.Join(c.ws.dir, nodesFolder))
	errs := make([]error, len(c.nodes)+len(detached))
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
	for i, region := range detached {
		g.Go(func() error {
			errs[len(c.nodes)+i] = StopDetached(ctx, c.ws.dir, region, c.say)
			return nil
		})
	}
	_ = g.Wait() // the errors of all are in errs
	errs = append(errs, c.closeProxies())
	// The database has its own time: it must not be left running because the
	// nodes have used theirs up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
	defer cancel()
	for _, region := range foldersIn(filepath.Join(c.ws.dir, serversFolder)) {
		errs = append(errs, StopServer(ctx, c.ws.dir, nil, region, c.say))
	}
	if c.Database != nil {
		errs = append(errs, c.Database.halt(ctx))
	}
	return errors.Join(errs...)
}
