package node

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// connections follows the connections of a server: it bounds their number and ends idle ones in order.
type connections struct {
	limit int         // most connections; 0 for no limit
	admit func() bool // whether a new connection may have its TLS handshake now; nil for always

	mu     sync.Mutex // guards the fields below
	open   int
	idle   *list.List // of net.Conn: HTTP/1 connections that wait for their next request, longest first
	places map[net.Conn]*list.Element
	gone   chan struct{} // closed when the last idle connection is gone; nil before lastCall
	closed bool
	shed   uint64 // connections that were refused or ended to make room
}

func newConnections(limit int, admit func() bool) *connections {
	return &connections{limit: limit, admit: admit, idle: list.New(), places: make(map[net.Conn]*list.Element)}
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
	}
	if c.gone != nil && c.idle.Len() == 0 {
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
// still answered.
func (c *connections) lastCall(ctx context.Context, listener net.Listener) {
	c.mu.Lock()
	c.closed = true
	end := time.Now().Add(lastCall)
	for conn := range c.places {
		_ = conn.SetReadDeadline(end) // it fails for a connection that is closed already
	}
	var gone chan struct{}
	if c.idle.Len() > 0 {
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
	case <-time.After(2 * lastCall): // an answer in these moments made its connection idle again
	case <-ctx.Done():
	}
}

// listener refuses the connections that the server does not take.
type listener struct {
	net.Listener
	connections *connections
}

func (l listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.connections.takes() {
			return conn, err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset leaves nothing behind in the kernel, and the client knows at once
		}
		_ = conn.Close()
	}
}

// connKey is the key of the connection in the context of its requests.
type connKey struct{}

// observeWait tells the gate how long requests have waited when their handler begins. It measures one request of four,
// because to ask the kernel costs a system call.
func (n *Node) observeWait(handler http.Handler) http.Handler {
	var requests atomic.Uint32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok && requests.Add(1)%4 == 0 {
			n.gate.Observe(dataAge(conn))
		}
		handler.ServeHTTP(w, r)
	})
}
