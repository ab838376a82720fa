package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/punchclock/punchclock/node/peer/peerpb"
	"github.com/punchclock/punchclock/node/punch"
)

// maxMessage bounds a request and a response. A batch holds about 1 MiB of items. Tracing and framing do not double it.
const maxMessage = 4 << 20

// Client calls other nodes. It is safe for concurrent use.
type Client struct {
	tls    func(region string) *tls.Config
	opened atomic.Uint64 // connections

	mu sync.Mutex // guards the fields below
	// A connection carries only calls to the region that the certificate of its node named. The keys are regions of the
	// database, so they are few.
	regions map[string]*http.Client
	// A stub costs several allocations, so each node has one.
	stubs map[target]peerpb.PeerClient
}

// target is a node of a region.
type target struct{ region, addr string }

// maxStubs bounds the memory to about 1 MB. It is many times the nodes of any cluster.
const maxStubs = 1024

// rpcOptions are the same on both ends. Messages are not compressed. The library compresses answers only, which have
// some ten bytes for each punch. In a profile of a home node that took 9 % of its CPU.
var rpcOptions = []connecthttp.Option{connecthttp.WithReadMaxBytes(maxMessage), connecthttp.WithCompressors()}

// NewClient makes a client. The function returns the TLS configuration for the nodes of a region. Without a function the
// client uses plain text.
func NewClient(config func(region string) *tls.Config) *Client {
	return &Client{tls: config, regions: make(map[string]*http.Client), stubs: make(map[target]peerpb.PeerClient)}
}

func (c *Client) to(t target) peerpb.PeerClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stub := c.stubs[t]; stub != nil {
		return stub
	}
	if len(c.stubs) >= maxStubs { // the next calls make the needed ones again
		clear(c.stubs)
	}
	if c.regions[t.region] == nil {
		c.regions[t.region] = &http.Client{Transport: c.transport(t.region)}
	}
	stub := peerpb.NewPeerClient(connect.NewClient(connecthttp.NewTransport(c.regions[t.region], c.url(t.addr), rpcOptions...)))
	c.stubs[t] = stub
	return stub
}

func (c *Client) transport(region string) *http.Transport {
	var protocols http.Protocols
	transport := &http.Transport{
		Protocols: &protocols,
		// A peer that does not accept connections leaves most of the punch's time for the next candidate.
		DialContext: c.dial(&net.Dialer{Timeout: time.Second, KeepAlive: 15 * time.Second}),
		// A frozen peer that still accepts connections is given up as fast as a peer that freezes later, see HTTP2 below. A
		// handshake is one round trip and some arithmetic.
		TLSHandshakeTimeout: 2 * time.Second,
		// A frozen peer does not answer pings, and a peer that waits for its database does. All calls to a frozen peer fail
		// within two seconds, and the next candidate takes them. A second is three times the longest round trip.
		HTTP2:           &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second, WriteByteTimeout: 2 * time.Second},
		IdleConnTimeout: 5 * time.Minute, // several times as long as a node lets pass between two calls of Warm
	}
	if c.tls == nil {
		protocols.SetUnencryptedHTTP2(true)
		return transport
	}
	protocols.SetHTTP2(true)
	transport.TLSClientConfig = c.tls(region)
	return transport
}

func (c *Client) dial(dialer *net.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err == nil {
			c.opened.Add(1)
		}
		return conn, err
	}
}

// Opened returns how many connections the client has opened.
func (c *Client) Opened() uint64 { return c.opened.Load() }

// Warm connects to the region's node at addr, unless a connection is open, by a call without punches. A forwarded punch
// then waits for no handshake. A full node refuses the call, and its connection is open all the same.
func (c *Client) Warm(ctx context.Context, region, addr string) error {
	_, _, err := c.RecordBatch(ctx, region, addr, nil)
	if punch.CodeOf(err) == punch.Overloaded {
		return nil
	}
	return err
}

func (c *Client) url(addr string) string {
	if c.tls == nil {
		return "http://" + addr
	}
	return "https://" + addr
}

// Close closes idle connections. Calls in flight end by their contexts.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.regions {
		client.CloseIdleConnections()
	}
}

// RecordBatch asks the region's node at addr to record the items. It returns one outcome for each, in order, and the time
// that the call took beyond the peer's own handling. An Overloaded error means that the node is full and has recorded
// nothing. Any other error means that the call failed as a whole: the items may or may not be committed.
func (c *Client) RecordBatch(
	ctx context.Context, region, addr string, items []punch.Item,
) (outcomes []punch.Outcome, overhead time.Duration, err error) {
	now := time.Now()
	ends, bounded := ctx.Deadline()
	if !bounded {
		ends = now.Add(maxTimeout)
	}
	req := &peerpb.RecordRequest{Items: make([]*peerpb.Item, len(items))}
	for i := range items {
		req.Items[i] = toWire(&items[i], now, ends)
	}
	res, err := c.to(target{region, addr}).Record(ctx, req)
	if connect.CodeOf(err) == connect.CodeResourceExhausted {
		return nil, 0, punch.Retryable(punch.Overloaded, time.Second, "the nodes of the company's home region are full", err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("peer %s: %w", addr, err)
	}
	if len(res.GetResults()) != len(items) {
		return nil, 0, fmt.Errorf("peer %s: %d results for %d items", addr, len(res.GetResults()), len(items))
	}
	outcomes = make([]punch.Outcome, len(items))
	for i := range items {
		outcomes[i] = resultFromWire(&items[i].Punch, res.GetResults()[i])
	}
	return outcomes, time.Since(now) - time.Duration(res.GetHandledMicros())*time.Microsecond, nil
}
