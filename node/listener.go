package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// headerTimeout bounds how long a client may take to send its headers: a second on the worst mobile network, with
	// room.
	headerTimeout = 10 * time.Second
	// lastCall is how long an idle connection stays open after the drain delay. The kernel may have received a request
	// that this process has not read yet, because the machine is busy. Shutdown would close the connection under it.
	lastCall = 250 * time.Millisecond
)

// serve listens and serves until the node is closed. It speaks TLS if the server has a configuration for it.
func (n *Node) serve(ctx context.Context, name, addr string, server *http.Server) (net.Addr, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	server.ErrorLog = slog.NewLogLogger(n.log.Handler(), slog.LevelDebug) // what clients do to connections is no warning
	idle := newIdleConns(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve := server.Serve
		if server.TLSConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") } // the configuration holds the certificate
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) && !idle.closing() {
			n.failed <- fmt.Errorf("%s listener: %w", name, err)
		}
	}()
	n.closer.add(name+" listener", reserveForGossip, func(ctx context.Context) error {
		idle.lastCall(ctx, listener)
		err := server.Shutdown(ctx)
		if err != nil {
			// A client that never finished its request, or a punch whose caller will retry: InFlight tells which.
			n.log.WarnContext(ctx, "closing connections that did not end", "listener", name, "punches", n.inFlight())
			err = server.Close()
			if n.inFlight() > 0 {
				err = errors.Join(err, errors.New("gave up punches in flight"))
			}
		}
		<-done
		return err
	})
	return listener.Addr(), nil
}

// inFlight counts the punches of callers that have no answer yet.
func (n *Node) inFlight() int64 {
	if n.api == nil {
		return 0
	}
	return n.api.InFlight()
}

// idleConns are the HTTP/1 connections of a server that wait for their next request.
type idleConns struct {
	mu     sync.Mutex // guards the fields below
	conns  map[net.Conn]struct{}
	gone   chan struct{} // closed when the last connection is gone; nil before lastCall
	closed bool
}

// newIdleConns follows the connections of a server that does not serve yet. Connections of HTTP/2 are left out: that
// protocol tells its clients itself which requests were not taken.
func newIdleConns(server *http.Server) *idleConns {
	idle := &idleConns{conns: make(map[net.Conn]struct{})}
	if server.Protocols == nil || server.Protocols.HTTP1() {
		server.ConnState = idle.follow
	}
	return idle
}

func (i *idleConns) follow(conn net.Conn, state http.ConnState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if state == http.StateIdle && !isHTTP2(conn) {
		i.conns[conn] = struct{}{}
	} else {
		delete(i.conns, conn)
	}
	if i.gone != nil && len(i.conns) == 0 {
		close(i.gone)
		i.gone = nil
	}
}

func isHTTP2(conn net.Conn) bool {
	secured, ok := conn.(*tls.Conn)
	return ok && secured.ConnectionState().NegotiatedProtocol == "h2"
}

func (i *idleConns) closing() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.closed
}

// lastCall stops accepting connections, and ends the idle ones after a moment in which a request that has arrived is
// still answered.
func (i *idleConns) lastCall(ctx context.Context, listener net.Listener) {
	i.mu.Lock()
	i.closed = true
	end := time.Now().Add(lastCall)
	for conn := range i.conns {
		_ = conn.SetReadDeadline(end) // it fails for a connection that is closed already
	}
	var gone chan struct{}
	if len(i.conns) > 0 {
		gone = make(chan struct{})
		i.gone = gone
	}
	i.mu.Unlock()
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
