package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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
	return n.serveConnections(ctx, name, addr, server, newConnections(0, nil))
}

func (n *Node) serveConnections(
	ctx context.Context, name, addr string, server *http.Server, connections *connections,
) (net.Addr, error) {
	var lc net.ListenConfig
	plain, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	server.ConnState = connections.follow
	listener := listener{Listener: plain, connections: connections}
	server.ErrorLog = slog.NewLogLogger(n.log.Handler(), slog.LevelDebug) // what clients do to connections is no warning
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve := server.Serve
		if server.TLSConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") } // the configuration holds the certificate
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) && !connections.closing() {
			n.failed <- fmt.Errorf("%s listener: %w", name, err)
		}
	}()
	n.closer.add(name+" listener", reserveForGossip, func(ctx context.Context) error {
		connections.lastCall(ctx, listener)
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
