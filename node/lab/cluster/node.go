package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Node is one node over its restarts. Its methods may run at the same time, except Stop, Kill and Restart of one node.
type Node struct {
	Region string
	// Name is the region and the host part, such as us-east-n1. The node's name in the gossip begins with it.
	Name       string
	PublicURL  string // base URL of the public API
	OpsURL     string // base URL of health, metrics and profiles
	PeerAddr   string // host:port of the node to node RPC
	GossipAddr string // host:port, TCP and UDP
	DNSAddr    string // host:port, TCP and UDP; empty without Config.DNSZone

	number int // within its region, from 0
	ws     *workspace
	// flags are the cluster's own flags for the node. They stay the same over restarts, so that a region that was
	// added does not make all other nodes look different.
	flags []string

	// reserved releases the addresses, which the cluster holds until the node's first start.
	reserved []func()

	mu      sync.Mutex // guards the fields below
	command command
	launch  *launch // what command runs
	process *process
	crashes int // how often a process of the node ended by itself
}

// PID returns the id of the node's latest process, 0 before the first.
func (n *Node) PID() int {
	if p := n.current(); p != nil {
		return p.pid()
	}
	return 0
}

// Running reports whether the node's process exists, even if it is frozen or not ready.
func (n *Node) Running() bool { return !n.current().exited() }

// Logs is the file with the output of all processes of this node.
func (n *Node) Logs() string { return n.ws.logFile(n.Name) }

// Stop sends SIGTERM and waits until the node is gone. When ctx ends first it kills the node, which is an error, as is
// an exit status other than 0. Stop of a node that is gone does nothing.
func (n *Node) Stop(ctx context.Context) error {
	p := n.current()
	if p == nil || p.exited() {
		return nil
	}
	if err := p.end(ctx, syscall.SIGTERM); err != nil {
		return err
	}
	if p.err != nil {
		return p.failure(p.err)
	}
	return nil
}

// Kill crashes the node and returns when it is gone.
func (n *Node) Kill() error {
	p := n.current()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	return p.end(ctx, syscall.SIGKILL)
}

// Freeze stops the node's process. It keeps its connections, the kernel accepts more for it, and it answers nothing.
func (n *Node) Freeze() error { return n.current().signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (n *Node) Thaw() error { return n.current().signal(syscall.SIGCONT) }

// Restart stops the node if it runs, starts it again on the same addresses and returns when it is ready.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.Stop(ctx); err != nil {
		return err
	}
	return n.start(ctx)
}

// Wait returns when the node's latest process is gone. It returns nil for status 0, otherwise how the process ended. It
// returns the error of ctx when ctx ends first.
func (n *Node) Wait(ctx context.Context) error {
	p := n.current()
	if p == nil {
		return nil
	}
	select {
	case <-p.gone.Done():
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// addrs returns the addresses on which the node listens.
func (n *Node) addrs() []string {
	addrs := []string{address(n.PublicURL), address(n.OpsURL), n.PeerAddr, n.GossipAddr}
	if n.DNSAddr != "" {
		addrs = append(addrs, n.DNSAddr)
	}
	return addrs
}

// release gives up the reserved addresses.
func (n *Node) release() {
	for _, release := range n.reserved {
		release()
	}
	n.reserved = nil
}

func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// launched returns what the node's latest process runs, nil before the first.
func (n *Node) launched() *launch {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.launch
}

// start starts the process and returns when it is ready. When start fails no process is left.
func (n *Node) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	n.mu.Lock()
	p, err := n.ws.spawner.start(n.command)
	if err == nil {
		n.process = p
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if err = poll(ctx, p, n.ready); err == nil {
		return nil
	}
	p.asked.Store(true) // the end is reported now, and Stop need not report it again
	return errors.Join(err, n.Kill())
}

// ready asks the node whether it takes punches, or would take them if its region were not evacuated. The operator wants
// an evacuated node to refuse, so waiting for it or replacing it would be wrong.
func (n *Node) ready(ctx context.Context) error {
	client, err := n.ws.opsClient()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.OpsURL+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, tailBytes)) // a part is better than nothing
	var answer struct{ Reasons []string }
	if json.Unmarshal(text, &answer) == nil && slices.Equal(answer.Reasons, []string{"the region is evacuated"}) {
		return nil
	}
	return fmt.Errorf("%s/readyz: %s: %s", n.OpsURL, resp.Status, strings.TrimSpace(string(text)))
}

// startNode starts a node. When another process has taken one of its addresses, the node gets others. The other nodes
// then know one seed less, which is harmless: the new node finds them by its own seeds.
func (c *Cluster) startNode(ctx context.Context, n *Node, l *launch) error {
	for attempt := 1; ; attempt++ {
		c.prepare(n, l)
		err := n.start(ctx)
		if err == nil || ctx.Err() != nil || attempt == startAttempts ||
			!c.ws.taken(n.addrs()...) {
			return err
		}
		c.ws.log.Warn("another process has taken a port of the node; trying others", "node", n.Name, "attempt", attempt)
		if err := c.assign(n); err != nil {
			return err
		}
	}
}

// prepare sets the command of the node's next process.
func (c *Cluster) prepare(n *Node, l *launch) {
	if n.flags == nil {
		n.flags = c.nodeFlags(n)
	}
	n.release()
	env := inheritedEnv("PUNCHCLOCK_") // a setting of this process is not one of the node's
	if c.cfg.ExtraEnv != nil {
		env = append(env, c.cfg.ExtraEnv(n)...)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.launch = l
	n.command = command{
		name: "node " + n.Name, path: l.binary, args: slices.Concat([]string{"node"}, n.flags, l.flags()), env: env,
		log:        n.Logs(),
		lastSignal: syscall.SIGKILL, // a frozen process takes no other
		region:     c.regionNumber(n.Region),
		died: func() {
			n.mu.Lock()
			n.crashes++
			n.mu.Unlock()
			c.changed()
		},
	}
}

// nodeFlags returns the flags that the cluster gives a node. All other settings keep the product's defaults, because
// this cluster must behave as the product does.
func (c *Cluster) nodeFlags(n *Node) []string {
	certificate, key := c.ws.certs.Node(n.Region)
	return append([]string{
		"--region=" + n.Region, "--name=" + strings.TrimPrefix(n.Name, n.Region+"-"),
		"--public-addr=" + address(n.PublicURL), "--public-url=" + n.PublicURL,
		"--ops-addr=" + address(n.OpsURL),
		"--peer-addr=" + n.PeerAddr, "--peer-cert-file=" + certificate, "--peer-key-file=" + key,
		"--peer-ca-file=" + c.ws.certs.CAFile(),
		"--gossip-addr=" + n.GossipAddr, "--gossip-seeds=" + strings.Join(c.seeds, ","),
		"--deployment=" + c.ws.deployment(), "--gossip-key-file=" + c.keyFile,
		"--database-url=" + c.nodeDatabaseURL(n.Region),
		"--token-jwks=" + c.cfg.JWKS, "--development",
		// No load balancer has to notice the drain here, and gossip tells the peers within a second.
		"--drain-delay=" + time.Second.String(),
	}, append(c.dnsFlags(n), c.cfg.ExtraFlags...)...)
}

func address(url string) string {
	_, addr, _ := strings.Cut(url, "://")
	return addr
}
