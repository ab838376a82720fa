package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy carries connections between the nodes and a region's database, and can make them slow. It changes no byte.
type Proxy struct {
	addr   string
	target string
	delay  atomic.Int64 // nanoseconds, in each direction

	listener net.Listener
	ctx      context.Context //nolint:containedctx // the lifetime of the proxy
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// newProxy listens on host. close must be called.
func newProxy(host, target string) (*Proxy, error) {
	listener, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{addr: listener.Addr().String(), target: target, listener: listener, ctx: ctx, cancel: cancel}
	p.running.Go(p.accept)
	return p, nil
}

// Delay holds back all bytes for d in each direction, so an answer comes 2d later. 0 ends the delay.
func (p *Proxy) Delay(d time.Duration) { p.delay.Store(int64(d)) }

func (p *Proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.join(from) })
	}
}

// join carries one connection until one of its two ends closes, or the proxy does.
func (p *Proxy) join(from net.Conn) {
	defer func() { _ = from.Close() }() // all bytes are carried or lost
	to, err := (&net.Dialer{}).DialContext(p.ctx, "tcp4", p.target)
	if err != nil {
		return // the client sees a closed connection, as of a server that dies
	}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _, _ = from.Close(), to.Close() })()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			defer cancel()
			p.carry(ctx, way[0], way[1])
		})
	}
	both.Wait()
}

// chunk is some bytes and the time at which they may continue.
type chunk struct {
	due  time.Time
	data []byte
}

// carry copies bytes, each chunk after the delay. The delays of several chunks overlap, as on a long line.
func (p *Proxy) carry(ctx context.Context, from, to net.Conn) {
	held := make(chan chunk, 256) // chunks of at most 32 KiB: room for several large batches
	var writer sync.WaitGroup
	defer writer.Wait()
	defer close(held)
	writer.Go(func() {
		for c := range held {
			if !Pause(ctx, time.Until(c.due)) {
				continue
			}
			if _, err := to.Write(c.data); err != nil {
				_ = from.Close() // ends the reader
			}
		}
	})
	for {
		data := make([]byte, 32<<10)
		n, err := from.Read(data)
		if n > 0 {
			select {
			case held <- chunk{time.Now().Add(time.Duration(p.delay.Load())), data[:n]}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) close() error {
	p.cancel()
	err := p.listener.Close()
	p.running.Wait()
	return err
}

// startProxies puts a proxy in front of each region's database.
func (c *Cluster) startProxies() error {
	if c.Database == nil {
		return errors.New("cluster: Proxies: the cluster must start the database itself")
	}
	c.proxies = make(map[string]*Proxy)
	for i, region := range c.cfg.Regions {
		hosts := c.Database.all()
		target := hosts[min(i, len(hosts)-1)].addr // PostgreSQL has one for all
		p, err := newProxy(c.ws.host(i+1), target)
		if err != nil {
			return err
		}
		c.proxies[region] = p
	}
	return nil
}

// Proxy returns the proxy in front of a region's database. It is nil without Config.Proxies.
func (c *Cluster) Proxy(region string) *Proxy { return c.proxies[region] }

// nodeDatabaseURL is the connection URL of a region's nodes, with their role and through the proxies. On PostgreSQL it
// has the region's own proxy alone, because all proxies lead to the same server.
func (c *Cluster) nodeDatabaseURL(region string) string {
	if c.Database == nil {
		return c.cfg.DatabaseURL
	}
	if c.proxies == nil {
		return c.Database.URLAs(nodeUser, DatabaseName, region)
	}
	through := func(h *host) string {
		if p := c.proxies[h.region]; p != nil {
			return p.addr
		}
		return h.addr // the region was added later
	}
	if c.Database.Engine == Postgres {
		return c.Database.url(nodeUser, DatabaseName, []string{c.proxies[region].addr})
	}
	var addrs []string
	for _, h := range c.Database.near(region) {
		addrs = append(addrs, through(h))
	}
	return c.Database.url(nodeUser, DatabaseName, addrs)
}

func (c *Cluster) closeProxies() error {
	var errs []error
	for _, p := range c.proxies {
		errs = append(errs, p.close())
	}
	c.proxies = nil
	return errors.Join(errs...)
}
