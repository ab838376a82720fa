package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// A child process is told its ports before it binds them, because its peers must know them. Another process may take a
// port in between. These ports are above the well-known servers and below the ephemeral ranges (Linux: 32768, IANA:
// 49152), so neither outgoing connections nor listeners on port 0 get them. Only another cluster can collide.
const (
	lowestPort  = 10240
	highestPort = 32767
)

// loopback is the part of 127.0.0.0/8 of a cluster. A random second octet separates clusters that start at the
// same time. The third octet is the region's number, so that addresses show the region. On macOS only 127.0.0.1 exists,
// and all processes share it.
type loopback struct{ cluster int }

func newLoopback() loopback {
	l := loopback{cluster: 1 + rand.IntN(254)}
	if ln, err := net.Listen("tcp4", net.JoinHostPort(l.host(1), "0")); err == nil {
		_ = ln.Close() // it only tested the address
		return l
	}
	return loopback{}
}

// host returns the address of a region by its number from 1. Number 0 is for processes that belong to no region.
func (l loopback) host(region int) string { return l.nodeHost(region, 0) }

// nodeHost returns the address of a region's node by its number from 0. Each node has its own, because DNS publishes
// addresses without ports.
func (l loopback) nodeHost(region, node int) string {
	if l.cluster == 0 {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", l.cluster, region, 1+node%254)
}

// FreeAddrs returns addresses on 127.0.0.1 that no process uses now. Another process will hardly take one before the
// caller does, because port 0 never gives such a port. A test uses it for a listener that must be told its address.
func FreeAddrs(n int) ([]string, error) { return freeAddrs("127.0.0.1", n) }

// freeAddrs returns n different addresses host:port that no process uses now.
func freeAddrs(host string, n int) ([]string, error) {
	const tries = 50 // if every second port is taken, this fails once in 2^50
	var addrs []string
	for range n {
		found := false
		for try := 0; try < tries && !found; try++ {
			addr := net.JoinHostPort(host, strconv.Itoa(lowestPort+rand.IntN(highestPort-lowestPort+1)))
			release, err := hold(addr)
			if err != nil {
				continue
			}
			defer release() // held until all are found, so that none is found twice
			addrs, found = append(addrs, addr), true
		}
		if !found {
			return nil, fmt.Errorf("found no free port on %s in %d tries", host, tries)
		}
	}
	return addrs, nil
}

// hold binds an address for TCP, and for UDP as gossip needs it. It does not listen: clients are refused, as if no
// process had the address.
func hold(addr string) (release func(), err error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	var sockets []int
	release = func() {
		for _, s := range sockets {
			_ = syscall.Close(s) // nothing was sent
		}
	}
	for _, kind := range []int{syscall.SOCK_STREAM, syscall.SOCK_DGRAM} {
		s, err := bind(kind, a)
		if err != nil {
			release()
			return nil, fmt.Errorf("binding %s: %w", addr, err)
		}
		sockets = append(sockets, s)
	}
	return release, nil
}

func bind(kind int, addr netip.AddrPort) (int, error) {
	syscall.ForkLock.RLock() // a child that starts meanwhile must not inherit the socket
	s, err := syscall.Socket(syscall.AF_INET, kind, 0)
	if err == nil {
		syscall.CloseOnExec(s)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, err
	}
	if err := syscall.Bind(s, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return 0, errors.Join(err, syscall.Close(s))
	}
	return s, nil
}

// taken reports whether a process uses one of the addresses. A child that ended early while an address is taken lost
// the race for it. The socket shows that, and the child's log need not be parsed.
func taken(addrs ...string) bool {
	for _, addr := range addrs {
		release, err := hold(addr)
		if err != nil {
			return true
		}
		release()
	}
	return false
}
