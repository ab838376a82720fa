package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// udpReaders answer side by side: an answer takes 3 µs and two system calls,
	// so two are beyond what resolvers ask even of the last server that is left,
	// and DNS cannot take the machine from the punches.
	udpReaders = 2
	// Resolvers come by TCP when an answer did not fit, which ours do, or to
	// see whether we are real. More connections are closed at once.
	maxConnections = 128
	// One address, or network of IPv6, must not hold all of them.
	maxConnectionsOfOne = 16
	// How long a connection may be silent or take for a query, and how many it
	// may bring (RFC 7766 leaves both to the server).
	idleTimeout = 5 * time.Second
	maxQueries  = 128
	// A reader that does not read its answer for so long is gone.
	writeTimeout = 2 * time.Second
	// errorPause keeps a socket that only fails from being asked all the time.
	errorPause = 10 * time.Millisecond
)

// listen binds UDP and TCP to one port.
func listen(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	tries := 1
	if addr.Port() == 0 { // a free one of the one may be taken of the other
		tries = 10
	}
	var err error
	for range tries {
		var udp *net.UDPConn
		var tcp *net.TCPListener
		if udp, tcp, err = listenOnce(ctx, addr); err == nil {
			return udp, tcp, nil
		}
	}
	return nil, nil, err
}

func listenOnce(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	var lc net.ListenConfig
	packets, err := lc.ListenPacket(ctx, "udp", addr.String())
	if err != nil {
		return nil, nil, err
	}
	udp := packets.(*net.UDPConn)
	// An answer must come from the address that was asked, which the system
	// does not see to when the socket listens on all of them. One of the two
	// families always fails.
	err4 := ipv4.NewPacketConn(udp).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	err6 := ipv6.NewPacketConn(udp).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	if err4 != nil && err6 != nil && addr.Addr().IsUnspecified() {
		return nil, nil, errors.Join(err4, err6, udp.Close())
	}
	stream, err := lc.Listen(ctx, "tcp", addrPort(udp.LocalAddr()).String())
	if err != nil {
		return nil, nil, errors.Join(err, udp.Close())
	}
	return udp, stream.(*net.TCPListener), nil
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort()
	case *net.TCPAddr:
		return a.AddrPort()
	default:
		return netip.AddrPort{}
	}
}

func (s *Server) serveUDP() {
	query := make([]byte, maxPacket)
	for {
		n, session, err := miekg.ReadFromSessionUDP(s.udp, query)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(errorPause)
			continue
		}
		reply := s.answer(query[:n], addrPort(session.RemoteAddr()).Addr(), true)
		if reply == nil {
			continue
		}
		if _, err := miekg.WriteToSessionUDP(s.udp, reply, session); err != nil {
			s.metrics.drop(droppedUnsent)
		}
	}
}

func (s *Server) serveTCP() {
	for {
		c, err := s.tcp.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of descriptors, for a moment
			time.Sleep(errorPause)
			continue
		}
		from := addrPort(c.RemoteAddr()).Addr()
		if !s.conns.add(c, from) {
			s.metrics.drop(droppedConnection)
			_ = c.Close() // nothing was said
			continue
		}
		s.running.Go(func() {
			defer s.conns.remove(c, from)
			s.serveConn(c, from)
		})
	}
}

// serveConn answers what comes through a connection, one query after the other.
// What ends it early is the caller's doing, and there is nobody else to tell.
func (s *Server) serveConn(c *net.TCPConn, from netip.Addr) {
	buffer := make([]byte, maxPacket)
	for range maxQueries {
		if c.SetDeadline(time.Now().Add(s.idle)) != nil {
			return
		}
		if _, err := io.ReadFull(c, buffer[:2]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint16(buffer))
		if size > len(buffer) { // no query is that long
			s.metrics.drop(droppedNoQuery)
			return
		}
		if _, err := io.ReadFull(c, buffer[:size]); err != nil {
			return
		}
		reply := s.answer(buffer[:size], from, false)
		if reply == nil {
			return
		}
		if c.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

// connections bounds and ends those that are open.
type connections struct {
	mu     sync.Mutex // guards what follows
	open   map[*net.TCPConn]bool
	of     map[netip.Addr]int // by holder
	closed bool
}

// holder is who a connection counts for: an address, of IPv6 the network of 64
// bits, since whoever has one of these has all of its addresses.
func holder(from netip.Addr) netip.Addr {
	from = from.Unmap().WithZone("")
	if from.Is6() {
		from = netip.PrefixFrom(from, 64).Masked().Addr()
	}
	return from
}

// add reports whether there is room.
func (cs *connections) add(c *net.TCPConn, from netip.Addr) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	from = holder(from)
	if cs.closed || len(cs.open) >= maxConnections || cs.of[from] >= maxConnectionsOfOne {
		return false
	}
	if cs.open == nil {
		cs.open, cs.of = make(map[*net.TCPConn]bool), make(map[netip.Addr]int)
	}
	cs.open[c] = true
	cs.of[from]++
	return true
}

func (cs *connections) remove(c *net.TCPConn, from netip.Addr) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	_ = c.Close() // all has been said
	from = holder(from)
	delete(cs.open, c)
	if cs.of[from]--; cs.of[from] == 0 {
		delete(cs.of, from)
	}
}

// close ends all, and lets no other in.
func (cs *connections) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	for c := range cs.open {
		_ = c.Close() // the one who reads it sees it
	}
}
