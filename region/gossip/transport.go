package gossip

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's own transport, but its connections end with ctx. Otherwise they would outlast a stop by
// their timeouts, and Close would wait for them.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen binds TCP and UDP to one port.
func listen(ctx context.Context, addr netip.AddrPort, logger *log.Logger) (*transport, error) {
	// A port that is free for TCP may be in use for UDP.
	tries := 1
	if addr.Port() == 0 {
		tries = 10
	}
	var err error
	for range tries {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{addr.Addr().String()}, BindPort: int(addr.Port()), Logger: logger,
		})
		if err == nil {
			return &transport{NetTransport: t, ctx: ctx}, nil
		}
	}
	return nil, fmt.Errorf("gossip: Addr %s: %w", addr, err)
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: timeout}
	c, err := dialer.DialContext(t.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, forget: context.AfterFunc(t.ctx, func() { _ = c.Close() })}, nil
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

type conn struct {
	net.Conn
	forget func() bool // ends the wait for the end of ctx
}

func (c *conn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// resolveAdvertise returns the address at which other nodes reach this node, or the zero address for the listening
// address. memberlist accepts no name. If a name has several addresses, the family of the listening address is
// preferred.
func resolveAdvertise(ctx context.Context, hostPort string, bind netip.AddrPort) (netip.AddrPort, error) {
	if hostPort == "" {
		return netip.AddrPort{}, nil
	}
	addrs, err := resolve(ctx, hostPort)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip: Advertise %s: %w", hostPort, err)
	}
	for _, a := range addrs {
		if a.Addr().Is4() == bind.Addr().Unmap().Is4() {
			return a, nil
		}
	}
	return addrs[0], nil
}

// resolve returns at least one address of host:port, or an error.
func resolve(ctx context.Context, hostPort string) ([]netip.AddrPort, error) {
	host, port, err := splitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	addrs := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addrs[i] = netip.AddrPortFrom(ip.Unmap(), port)
	}
	return addrs, nil
}

// nodeAddr formats an address as memberlist does.
func nodeAddr(a netip.AddrPort) string {
	return net.JoinHostPort(a.Addr().String(), strconv.Itoa(int(a.Port())))
}
