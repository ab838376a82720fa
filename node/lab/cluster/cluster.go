package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Cluster is a running cluster.
type Cluster struct {
	// Database is the database that the cluster started. It is nil when Config names another one.
	Database *Database

	cfg     Config
	ws      *workspace
	keyFile string
	seeds   []string          // gossip addresses, one node of each of the first regions
	proxies map[string]*Proxy // by region, nil without Config.Proxies

	// changes lets one SetNodes, RemoveNodes, AddServer or RemoveServer run at a time.
	changes *semaphore.Weighted

	mu       sync.Mutex // guards the fields below
	regions  []string   // those of cfg first
	nodes    []*Node    // by region, in the order of regions
	onChange func()     // see notify
}

// Start runs a database, migrates it and runs the nodes. It returns when all nodes are ready. ctx bounds the start
// only: the cluster runs until Stop or until this process ends. A failed Start leaves no process running, and its error
// names the logs.
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
	c := newCluster(cfg, ws)
	if err := c.bringUp(ctx, engine); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		_ = c.halt(stop) // the failure of the start is the one to report
		return nil, ws.abandon(ctx, err)
	}
	return c, nil
}

func newCluster(cfg Config, ws *workspace) *Cluster {
	return &Cluster{cfg: cfg, ws: ws, regions: slices.Clone(cfg.Regions), changes: semaphore.NewWeighted(1)}
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
		env:        inheritedEnv("PUNCHCLOCK_"),
		log:        c.ws.logFile("migrate"),
		lastSignal: syscall.SIGKILL,
	})
	if err == nil {
		c.ws.log.Info("database migrated", "took", time.Since(began))
	}
	return err
}

// planNodes chooses all addresses before the first node starts, because the gossip seeds are among them.
func (c *Cluster) planNodes() error {
	for _, region := range c.cfg.Regions {
		nodes, err := c.planRegion(region, c.cfg.NodesPerRegion)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.number == 0 {
				c.seeds = append(c.seeds, n.GossipAddr)
			}
			if slices.Contains(c.cfg.WithoutNodes, region) {
				if err := c.reserve(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *Cluster) planRegion(region string, count int) (nodes []*Node, err error) {
	for i := range count {
		n := &Node{Region: region, Name: fmt.Sprintf("%s-n%d", region, i+1), number: i, ws: c.ws}
		if err := c.assign(n); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, nodes...)
	return nodes, nil
}

// reserve keeps the addresses of a node that starts later. Otherwise another process could take one of them.
func (c *Cluster) reserve(n *Node) error {
	if c.ws.network != nil {
		return nil // no other process is in the network of a region
	}
	for _, addr := range n.addrs() {
		release, err := hold(addr)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		n.reserved = append(n.reserved, release)
	}
	return nil
}

// assign gives a node free addresses. The public address is the node's own, because DNS publishes it. The other
// addresses are the region's.
func (c *Cluster) assign(n *Node) error {
	region := c.regionNumber(n.Region)
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
	n.flags = nil // they contain the addresses
	return nil
}

// startNodes starts all nodes at once, except those of Config.WithoutNodes. It returns when all are ready.
func (c *Cluster) startNodes(ctx context.Context) error {
	began := time.Now()
	nodes := slices.DeleteFunc(c.Nodes(), func(n *Node) bool { return slices.Contains(c.cfg.WithoutNodes, n.Region) })
	l, err := newLaunch(c.cfg.Binary, nil)
	if err != nil {
		return fmt.Errorf("cluster: Binary: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error { return c.startNode(ctx, n, l) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.ws.log.Info("nodes ready", "nodes", len(nodes), "took", time.Since(began))
	return nil
}

// Nodes returns all nodes, region by region.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Region returns the nodes of a region. A region that does not exist has none.
func (c *Cluster) Region(name string) []*Node {
	return slices.DeleteFunc(c.Nodes(), func(n *Node) bool { return n.Region != name })
}

// Regions returns the names of the regions, the primary one first.
func (c *Cluster) Regions() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.regions)
}

// regionNumber counts the regions from 1. It is 0 for an unknown region.
func (c *Cluster) regionNumber(region string) int { return 1 + slices.Index(c.Regions(), region) }

// DatabaseURL returns the superuser's connection URL from a region. The nodes have a role of their own.
func (c *Cluster) DatabaseURL(region string) string {
	if c.Database == nil {
		return c.cfg.DatabaseURL
	}
	return c.Database.URL(region)
}

// GossipKeyFile is the keyring file that all nodes read.
func (c *Cluster) GossipKeyFile() string { return c.keyFile }

// OperatorURL is the connection URL of the role that may only manage companies.
func (c *Cluster) OperatorURL(region string) string {
	if c.Database == nil {
		return c.cfg.DatabaseURL
	}
	return c.Database.URLAs(operatorUser, DatabaseName, region)
}

// Dir is the folder with data/, logs/ and certs/.
func (c *Cluster) Dir() string { return c.ws.dir }

// Keep lets Stop leave the folder behind, which a failed test needs as evidence.
func (c *Cluster) Keep() { c.ws.keep.Store(true) }

// Stop stops all nodes at once, then the database, and removes the folder unless Keep was called. It kills a process
// that does not stop before ctx ends. Its error names the logs when a node did not stop cleanly, or had ended by itself
// before. A second Stop does nothing.
func (c *Cluster) Stop(ctx context.Context) error { return c.ws.close(c.halt(ctx)) }

func (c *Cluster) halt(ctx context.Context) error {
	nodes := c.Nodes()
	errs := make([]error, len(nodes))
	var g errgroup.Group
	for i, n := range nodes {
		g.Go(func() error {
			if p := n.current(); p != nil && p.exited() && !p.asked.Swap(true) {
				errs[i] = p.failure(fmt.Errorf("ended by itself: %w", p.ending()))
				return nil
			}
			errs[i] = n.Stop(ctx)
			return nil
		})
	}
	_ = g.Wait() // errs holds all errors
	for _, n := range nodes {
		n.release()
	}
	errs = append(errs, c.closeProxies())
	if c.Database != nil {
		// The nodes may have used up ctx, and the database must not stay behind.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		errs = append(errs, c.Database.halt(ctx))
	}
	return errors.Join(errs...)
}

// notify lets a function be called after each change of the state that the cluster did not make itself, such as a
// process that died. The function must not block.
func (c *Cluster) notify(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onChange = f
}

func (c *Cluster) changed() {
	c.mu.Lock()
	f := c.onChange
	c.mu.Unlock()
	if f != nil {
		f()
	}
}
