package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Children are told their port before they bind it, because their peers must
// know it: between our look and their bind somebody else may take it. Ports
// above the well-known servers and below every ephemeral range (Linux: 32768,
// IANA: 49152) are not handed to outgoing connections or to listeners on port
// 0, so only another cluster can collide; see loopback for those.
const (
	lowestPort  = 10240
	highestPort = 32767
)

// loopback is the part of 127.0.0.0/8 that one cluster uses: a random second
// octet keeps clusters that start at the same time apart, the third is the
// region's, so that a region shows in its addresses. Where only 127.0.0.1
// exists (macOS) everything is there.
type loopback struct{ cluster int }

func newLoopback() loopback {
	l := loopback{cluster: 1 + rand.IntN(254)}
	if ln, err := net.Listen("tcp4", net.JoinHostPort(l.host(1), "0")); err == nil {
		_ = ln.Close() // was only to see whether it opens
		return l
	}
	return loopback{}
}

// host returns the address of a region by its number from 1 on; 0 is for what
// belongs to no region.
func (l loopback) host(region int) string { return l.nodeHost(region, 0) }

// nodeHost returns the address of a region's node by its number from 0 on, so
// that DNS can tell nodes apart.
func (l loopback) nodeHost(region, node int) string {
	if l.cluster == 0 {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", l.cluster, region, 1+node%254)
}

// freeAddrs returns n different host:port that nobody uses now.
func freeAddrs(host string, n int) ([]string, error) {
	const tries = 50 // a machine whose every second port is taken fails once in 2^50
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

// hold binds addr for TCP and, as gossip needs it, for UDP.
func hold(addr string) (release func(), err error) {
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		return nil, err
	}
	pc, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return func() { _, _ = ln.Close(), pc.Close() }, nil // nothing was sent
}

// taken says whether somebody uses one of the addresses. A child that ended
// early while one is taken lost the race for it: that is seen at the socket,
// not guessed from what the child logged.
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
