package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/punchclock/punchclock/node/certs"
)

// drainTimeout is the time in which a database server must be gone after its decommissioning, on a busy machine.
const drainTimeout = time.Minute

// AddServer starts a database server in a region and returns when the database knows the region. A new region first
// gets certificates, and addresses for as many nodes as the first region has. A server that runs stays as it is. The
// operator then adds the region to the database by `punchclock region add`.
func (c *Cluster) AddServer(ctx context.Context, region string, say Say) error {
	if err := c.changes.Acquire(ctx, 1); err != nil {
		return err
	}
	defer c.changes.Release(1)
	if err := c.checkServers(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	if slices.Contains(c.cfg.Regions, region) {
		say("%s: the cluster has its own server there", region)
		return nil
	}
	h, added, err := c.serverOf(region)
	if err != nil {
		return fmt.Errorf("region %s: %w", region, err)
	}
	running := !c.Database.processOf(h).exited()
	began := time.Now()
	if err = c.Database.spawn([]*host{h}); err == nil {
		err = poll(ctx, c.Database.processOf(h), func(ctx context.Context) error { return c.Database.joined(ctx, h) })
	}
	switch {
	case err != nil && added:
		return errors.Join(err, c.Database.end(context.WithoutCancel(ctx), []*host{h}), c.forget(region))
	case err != nil:
		return err
	case running:
		say("%s runs already", serverName(region))
	default:
		say("%s is ready at %s after %.1f s", serverName(region), h.addr, time.Since(began).Seconds())
	}
	return nil
}

// RemoveServer decommissions the server that AddServer started in a region, stops it, removes its data and certificates
// and forgets the region. It refuses while a node runs there or a database has the region. A server of the first
// regions stays. Without a server it does nothing.
func (c *Cluster) RemoveServer(ctx context.Context, region string, say Say) error {
	if err := c.changes.Acquire(ctx, 1); err != nil {
		return err
	}
	defer c.changes.Release(1)
	if slices.Contains(c.cfg.Regions, region) {
		say("%s: the server is the cluster's own and stays", region)
		return nil
	}
	if !slices.Contains(c.Regions(), region) {
		return nil
	}
	for _, n := range c.Region(region) {
		if n.Running() {
			return fmt.Errorf("%s runs: stop the nodes first: punchclock-lab nodes stop %s", n.Name, region)
		}
	}
	if err := c.Database.withoutRegion(ctx, region); err != nil {
		return err
	}
	if err := c.Database.decommission(ctx, region, say); err != nil {
		return err
	}
	hosts, err := c.Database.in(region)
	if err != nil {
		return err
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	p := c.Database.processOf(hosts[0])
	if err := p.end(stop, syscall.SIGTERM); err != nil {
		say("%v", err) // a decommissioned server holds nothing, so its death is harmless
	}
	if p != nil {
		p.asked.Store(true) // it may have ended by itself
	}
	return c.forget(region)
}

// checkServers is an error where servers cannot be added.
func (c *Cluster) checkServers() error {
	switch {
	case c.Database == nil || c.Database.Engine != Cockroach:
		return errors.New("only CockroachDB has a server in each region: on PostgreSQL `punchclock region add` is enough")
	case c.ws.network != nil:
		return errors.New("the networks of the regions are made at the start: none can be added")
	default:
		return nil
	}
}

func serverName(region string) string { return "cockroach-" + region }

// serverOf returns the database process of a region. It adds the region to the cluster if need be.
func (c *Cluster) serverOf(region string) (h *host, added bool, err error) {
	if hosts, err := c.Database.in(region); err == nil {
		return hosts[0], false, nil
	}
	if err := checkRegions(append(c.Regions(), region)); err != nil {
		return nil, false, err
	}
	c.mu.Lock()
	c.regions = append(c.regions, region)
	c.mu.Unlock()
	if h, err = c.addRegion(region); err != nil {
		return nil, false, errors.Join(err, c.forget(region))
	}
	return h, true, nil
}

func (c *Cluster) addRegion(region string) (*host, error) {
	addr := c.ws.host(c.regionNumber(region))
	hosts := append(c.ws.certified(), addr)
	if err := c.ws.certs.MakeRegion(certs.Dev{
		Deployment: c.ws.deployment(), Regions: []string{region}, Hosts: hosts, DatabaseHosts: hosts, Life: certificateLife,
	}); err != nil {
		return nil, err
	}
	h, err := c.Database.addHost(region, addr)
	if err != nil {
		return nil, err
	}
	h.command.died = func() {
		h.crashes.Add(1)
		c.changed()
	}
	nodes, err := c.planRegion(region, len(c.Region(c.cfg.Regions[0])))
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if err := c.reserve(n); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// forget removes a region with its data and its certificates. Its processes must be gone.
func (c *Cluster) forget(region string) error {
	for _, n := range c.Region(region) {
		n.release()
	}
	c.mu.Lock()
	c.regions = slices.DeleteFunc(slices.Clone(c.regions), func(r string) bool { return r == region })
	c.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(n *Node) bool { return n.Region == region })
	c.mu.Unlock()
	c.Database.forgetHost(region)
	certificate, key := c.ws.certs.Node(region)
	return errors.Join(os.RemoveAll(c.ws.cockroachStore(region)), os.RemoveAll(c.ws.certs.DatabaseOf(region)),
		os.RemoveAll(certificate), os.RemoveAll(key))
}

// addHost plans one more process, with certificates of its own.
func (d *Database) addHost(region, ip string) (*host, error) {
	addrs, err := d.ws.pick(ip, 1)
	if err != nil {
		return nil, err
	}
	h := &host{region: region, addr: addrs[0], added: true}
	h.command, err = d.cockroachCommand(h, d.ws.certs.DatabaseOf(region), append(d.addrs(), h.addr))
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hosts = append(slices.Clone(d.hosts), h)
	return h, nil
}

func (d *Database) forgetHost(region string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hosts = slices.DeleteFunc(slices.Clone(d.hosts), func(h *host) bool { return h.region == region })
}

// joined is nil once the database knows the region of a process.
func (d *Database) joined(ctx context.Context, h *host) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	var known bool
	err := query(ctx, d.url(d.superuser(), d.maintenance(), []string{h.addr}),
		"SELECT count(*) = 1 FROM [SHOW REGIONS FROM CLUSTER] WHERE region = $1", &known, h.region)
	if err == nil && !known {
		err = errors.New("the database does not know the region yet")
	}
	return err
}

// withoutRegion is an error that names the databases that have a region.
func (d *Database) withoutRegion(ctx context.Context, region string) error {
	var databases []string
	err := query(ctx, d.AdminURL(),
		"SELECT coalesce(array_agg(database_name), '{}') FROM [SHOW REGIONS FROM ALL DATABASES] WHERE $1::text = ANY (regions)", &databases, region)
	if err == nil && len(databases) > 0 {
		err = fmt.Errorf("database %s has the region: remove it first: punchclock region remove %s", strings.Join(databases, ", "), region)
	}
	return err
}
