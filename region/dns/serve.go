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
	// udpReaders is the number of goroutines that answer UDP. An answer takes 3 µs and two system calls, so two
	// goroutines serve more queries than resolvers send. A flood of queries cannot take the processors from the
	// punches.
	udpReaders = 2
	// Resolvers use TCP if an answer does not fit, which is rare here, or to check the server. More connections are
	// closed at once.
	maxConnections = 128
	// One address, or one IPv6 network of 64 bits, must not use all connections.
	maxConnectionsPerClient = 16
	// How long a connection may be idle or take for a query, and how many queries it may send. RFC 7766 leaves both to
	// the server.
	idleTimeout = 5 * time.Second
	maxQueries  = 128
	// A client that does not read its answer for this long is gone.
	writeTimeout = 2 * time.Second
	// errorPause prevents a busy loop on a socket that always fails.
	errorPause = 10 * time.Millisecond
)

// listen opens UDP and TCP on one port.
func listen(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	tries := 1
	if addr.Port() == 0 { // a port that is free for UDP may be in use for TCP
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
	// An answer must come from the address that the query was sent to. The system does not ensure this for a socket
	// that listens on all addresses. One of the two families always fails.
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
		case err != nil: // no file descriptor is free at this moment
			time.Sleep(errorPause)
			continue
		}
		from := addrPort(c.RemoteAddr()).Addr()
		if !s.conns.add(c, from) {
			s.metrics.drop(droppedConnection)
			_ = c.Close() // there is nothing to send
			continue
		}
		s.running.Go(func() {
			defer s.conns.remove(c, from)
			s.serveConn(c, from)
		})
	}
}

// serveConn answers the queries of a connection, one after the other. Errors are ignored: the client has caused them,
// and it sees that the connection ends.
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
		if size > len(buffer) { // longer than any query
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

// connections limits the open connections and closes them.
type connections struct {
	mu     sync.Mutex // guards all fields below
	open   map[*net.TCPConn]bool
	of     map[netip.Addr]int // open connections by client
	closed bool
}

// clientOf returns the client that a connection counts for. For IPv6 it is the network of 64 bits, because a client
// usually has all addresses of such a network.
func clientOf(from netip.Addr) netip.Addr {
	from = from.Unmap().WithZone("")
	if from.Is6() {
		from = netip.PrefixFrom(from, 64).Masked().Addr()
	}
	return from
}

// add reports whether the connection may stay open.
func (cs *connections) add(c *net.TCPConn, from netip.Addr) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	from = clientOf(from)
	if cs.closed || len(cs.open) >= maxConnections || cs.of[from] >= maxConnectionsPerClient {
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
	_ = c.Close() // all answers are sent
	from = clientOf(from)
	delete(cs.open, c)
	if cs.of[from]--; cs.of[from] == 0 {
		delete(cs.of, from)
	}
}

// close closes all connections and refuses later ones.
func (cs *connections) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.closed = true
	for c := range cs.open {
		_ = c.Close() // its goroutine sees the error and ends
	}
}
