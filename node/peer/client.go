package peer

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/punchclock/punchclock/node/peer/peerpb"
	"github.com/punchclock/punchclock/node/punch"
)

// maxMessage bounds a request and a response: a lane's batch holds about 1 MiB
// of items, which tracing and framing do not double.
const maxMessage = 4 << 20

// Client calls other nodes. It is safe for concurrent use.
type Client struct {
	http   *http.Client
	secret string
}

// NewClient makes a client that shows secret with every call.
func NewClient(secret string) *Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &protocols,
		// A peer that does not even accept is left for the next candidate
		// while most of the punch's time remains.
		DialContext: (&net.Dialer{Timeout: time.Second, KeepAlive: 15 * time.Second}).DialContext,
		// A frozen peer, or one whose machine vanished, does not answer pings,
		// while one that waits for its database does: all calls on its
		// connection fail within two seconds and the next candidate takes
		// them. A second is three times the longest round trip.
		HTTP2:           &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second, WriteByteTimeout: 2 * time.Second},
		IdleConnTimeout: 5 * time.Minute, // nodes talk all the time or are gone
	}
	return &Client{http: &http.Client{Transport: transport}, secret: secret}
}

// Close drops idle connections. Calls in flight end by their contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Record asks the node at addr to settle the items and returns one outcome for
// each, in order, and how long the call took beyond the peer's own handling.
// An error means that the call failed as a whole: the items may or may not be
// committed.
func (c *Client) Record(ctx context.Context, addr string, items []punch.Item) (outcomes []punch.Outcome, overhead time.Duration, err error) {
	now := time.Now()
	ends, bounded := ctx.Deadline()
	if !bounded {
		ends = now.Add(maxTimeout)
	}
	req := &peerpb.RecordRequest{Items: make([]*peerpb.Item, len(items))}
	for i := range items {
		req.Items[i] = toWire(&items[i], now, ends)
	}
	ctx, info := connect.NewClientContext(ctx)
	if c.secret != "" {
		info.RequestHeader().Set("Authorization", "Bearer "+c.secret)
	}
	transport := connecthttp.NewTransport(c.http, "http://"+addr, connecthttp.WithReadMaxBytes(maxMessage))
	res, err := peerpb.NewPeerClient(connect.NewClient(transport)).Record(ctx, req)
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
