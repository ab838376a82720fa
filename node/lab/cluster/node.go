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

// Node is one node process over its restarts. Its methods may be called at the
// same time, but Stop, Kill and Restart of one node in turn.
type Node struct {
	Region string
	// Name is the region and the host part, such as us-east-n1: what its name
	// in the gossip begins with.
	Name       string
	PublicURL  string // base URL of the public API
	OpsURL     string // base URL of health, metrics and profiles
	PeerAddr   string // host:port of the node to node RPC
	GossipAddr string // host:port, TCP and UDP
	DNSAddr    string // host:port, TCP and UDP; empty without Config.DNSZone

	number int // within its region, from 0 on

	ws      *workspace
	command command

	mu      sync.Mutex // guards process
	process *process
}

// PID returns the id of the node's latest process, 0 before the first.
func (n *Node) PID() int {
	if p := n.current(); p != nil {
		return p.pid()
	}
	return 0
}

// Running says whether the node's process is there, be it frozen or not ready.
func (n *Node) Running() bool { return !n.current().exited() }

// Logs is the file that holds what all processes of this node have written.
func (n *Node) Logs() string { return n.command.log }

// Stop sends SIGTERM and waits until the node has finished and gone. When ctx
// ends first the node is killed, which is an error, as is a status other than
// 0. A node that is gone already is no error.
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

// Freeze stops the node's clock: it holds its connections, the kernel accepts
// more for it, and it answers nothing.
func (n *Node) Freeze() error { return n.current().signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (n *Node) Thaw() error { return n.current().signal(syscall.SIGCONT) }

// Restart stops the node if it runs, starts it again on the same addresses and
// returns when it is ready.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.Stop(ctx); err != nil {
		return err
	}
	return n.start(ctx)
}

// Wait returns when the node's latest process is gone: nil if its status was 0,
// else how it ended, or the error of ctx when that ends first.
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

func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// start forks the process and returns when it is ready, or without a process.
func (n *Node) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	p, err := n.ws.spawner.start(n.command)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	err = poll(ctx, p, n.ready)
	if err == nil {
		return nil
	}
	return errors.Join(err, n.Kill())
}

// ready asks the node whether it takes punches.
func (n *Node) ready(ctx context.Context) error {
	client, err := n.ws.opsClient()
	if err != nil {
		return err
	}
	return ready(ctx, client, n.OpsURL)
}

func ready(ctx context.Context, client *http.Client, opsURL string) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, opsURL+"/readyz", nil)
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
	text, _ := io.ReadAll(io.LimitReader(resp.Body, tailBytes)) // a part tells more than nothing
	err = fmt.Errorf("%s/readyz: %s: %s", opsURL, resp.Status, strings.TrimSpace(string(text)))
	var said struct{ Reasons []string }
	if json.Unmarshal(text, &said) == nil && slices.Equal(said.Reasons, []string{"the region is evacuated"}) {
		err = errors.Join(errEvacuated, err)
	}
	return err
}

// errEvacuated is of a node that is not ready for no other reason than that an
// operator wants it so.
var errEvacuated = errors.New("evacuated")

// flags tells a node who it is. Settings that are not here keep the product's
// defaults, so that what is shown on this cluster is what the product does.
func (c *Cluster) flags(n *Node, host string) []string {
	certificate, key := c.ws.certs.Node(n.Region)
	return append([]string{
		"node", "--region=" + n.Region, "--name=" + host,
		"--public-addr=" + address(n.PublicURL), "--public-url=" + n.PublicURL,
		"--ops-addr=" + address(n.OpsURL),
		"--peer-addr=" + n.PeerAddr, "--peer-cert-file=" + certificate, "--peer-key-file=" + key,
		"--peer-ca-file=" + c.ws.certs.Authority(),
		"--gossip-addr=" + n.GossipAddr, "--gossip-seeds=" + strings.Join(c.seeds, ","),
		"--deployment=" + c.ws.deployment(), "--gossip-key-file=" + c.keyFile,
		"--database-url=" + c.nodeDatabaseURL(n.Region),
		"--token-jwks=" + c.cfg.JWKS, "--development",
		// Nobody balances load here who would have to notice first; gossip
		// tells the peers within a second.
		"--drain-delay=" + time.Second.String(),
	}, append(c.dnsFlags(n), c.cfg.ExtraFlags...)...)
}

func address(url string) string {
	_, addr, _ := strings.Cut(url, "://")
	return addr
}
