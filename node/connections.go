package node

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/admission"
)

// connections follows the connections of a server: it bounds their number and ends idle ones in order.
type connections struct {
	limit int           // most connections; 0 for no limit
	admit func() bool   // whether a new connection may have its TLS handshake now; nil for always
	last  time.Duration // lastCall; a test on a busy machine needs more

	mu     sync.Mutex // guards the fields below
	open   int
	idle   *list.List // of net.Conn: HTTP/1 connections that wait for their next request, longest first
	places map[net.Conn]*list.Element
	active map[net.Conn]struct{} // HTTP/1 connections that read or answer a request
	gone   chan struct{}         // closed when none is idle or active; nil before lastCall
	closed bool
	shed   uint64 // connections that were refused or ended to make room
}

func newConnections(limit int, admit func() bool) *connections {
	return &connections{limit: limit, admit: admit, last: lastCall, idle: list.New(), places: make(map[net.Conn]*list.Element), active: make(map[net.Conn]struct{})}
}

// follow is the server's ConnState. Idle connections of HTTP/2 are left out: that protocol tells its clients itself which
// requests were not taken.
func (c *connections) follow(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.places[conn]; place != nil {
		c.idle.Remove(place)
		delete(c.places, conn)
	}
	delete(c.active, conn)
	switch state {
	case http.StateNew:
		c.open++
	case http.StateIdle:
		if !isHTTP2(conn) {
			c.places[conn] = c.idle.PushBack(conn)
		}
	case http.StateHijacked, http.StateClosed:
		c.open--
	case http.StateActive:
		if !isHTTP2(conn) {
			c.active[conn] = struct{}{}
		}
	}
	if c.gone != nil && c.idle.Len()+len(c.active) == 0 {
		close(c.gone)
		c.gone = nil
	}
}

func isHTTP2(conn net.Conn) bool {
	secured, ok := conn.(*tls.Conn)
	return ok && secured.ConnectionState().NegotiatedProtocol == "h2"
}

// takes decides about a new connection. Under overload a node must refuse it before the TLS handshake, which costs far
// more than a reset. The connection that has been idle longest makes room for a new one.
func (c *connections) takes() bool {
	if c.admit != nil && !c.admit() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.shed++
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit == 0 || c.open < c.limit {
		return true
	}
	c.shed++
	longest := c.idle.Front()
	if longest == nil {
		return false
	}
	conn := c.idle.Remove(longest).(net.Conn)
	delete(c.places, conn)
	_ = conn.SetReadDeadline(time.Unix(1, 0)) // the server closes it; it fails for a connection that is closed already
	return true
}

func (c *connections) count() (open int, shed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.shed
}

func (c *connections) closing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// lastCall stops accepting connections, and ends the idle ones after a moment in which a request that has arrived is
// still answered. It also waits for answers in this time. The server makes a connection active, and drops the request that
// it has read if Shutdown begins before its handler.
func (c *connections) lastCall(ctx context.Context, listener net.Listener) {
	c.mu.Lock()
	c.closed = true
	end := time.Now().Add(c.last)
	for conn := range c.places {
		_ = conn.SetReadDeadline(end) // it fails for a connection that is closed already
	}
	var gone chan struct{}
	if c.idle.Len()+len(c.active) > 0 {
		gone = make(chan struct{})
		c.gone = gone
	}
	c.mu.Unlock()
	_ = listener.Close() // Serve returns; Shutdown closes the listener a second time
	if gone == nil {
		return
	}
	select {
	case <-gone:
	case <-time.After(2 * c.last): // an answer in these moments made its connection idle again
	case <-ctx.Done():
	}
}

// listener refuses the connections that the server does not take. It drops those whose caller has left already. After a
// stall these are thousands, and the server would read and handle a request of each.
type listener struct {
	net.Listener
	connections *connections
}

func (l listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if _, left := socketOf(conn).state(); !left && l.connections.takes() {
			return conn, nil
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset leaves nothing behind in the kernel, and the client knows at once
		}
		_ = conn.Close()
	}
}

// socketKey is the key of a connection's socket in the context of its requests.
type socketKey struct{}

// withSocket is the public server's ConnContext.
func withSocket(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, socketKey{}, socketOf(conn))
}

// waited returns how long a request has waited when its handler begins, and whether its caller has left.
func waited(ctx context.Context) (time.Duration, bool) {
	s, ok := ctx.Value(socketKey{}).(*socket)
	if !ok {
		return admission.Unknown, false
	}
	return s.state()
}
