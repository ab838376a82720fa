package node

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestARequestThatHasArrivedIsAnswered fills many idle connections with a request each, and closes the server before
// it can have read them all. A plain Shutdown would close these connections: for it they are still idle.
func TestARequestThatHasArrivedIsAnswered(t *testing.T) {
	const connections = 300
	n := &Node{log: slog.New(slog.DiscardHandler), failed: make(chan error, 1)}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/last" {
			w.Header().Set("Connection", "close")
		}
		_, _ = io.WriteString(w, "done")
	})}
	follower := newConnections(0, nil)
	follower.last = time.Minute // the server is done as soon as it has read all requests, however busy the machine is
	addr, err := n.serveConnections(t.Context(), "test", "127.0.0.1:0", server, follower)
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	for range connections {
		conn, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // the server closes it
		conns = append(conns, conn)
		if err := request(conn, "/first"); err != nil {
			t.Fatal(err)
		}
	}
	// A client may have its answer before the server counts the connection as idle, and Shutdown ends connections in between.
	for deadline := time.Now().Add(time.Minute); !follower.idleAre(connections); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not all connections are idle after a minute")
		}
	}
	for _, conn := range conns {
		if _, err := fmt.Fprint(conn, "GET /last HTTP/1.1\r\nHost: node\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := n.closer.close(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("closed in %s", time.Since(began))
	lost := 0
	for _, conn := range conns {
		if err := readAnswer(conn); err != nil {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d requests that had arrived got no answer", lost, connections)
	}
	select {
	case err := <-n.failed:
		t.Errorf("the listener counts as failed: %v", err)
	default:
	}
}

func (c *connections) idleAre(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idle.Len() == n
}

// TestIdleConnectionsDoNotDelayTheEnd closes a server whose clients hold connections and send nothing.
func TestIdleConnectionsDoNotDelayTheEnd(t *testing.T) {
	n := &Node{log: slog.New(slog.DiscardHandler), failed: make(chan error, 1)}
	addr, err := n.serve(t.Context(), "test", "127.0.0.1:0", &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // the server closes it
	if err := request(conn, "/"); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- n.closer.close(t.Context()) }()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle connection ended with %v, want its regular end", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func request(conn net.Conn, path string) error {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: node\r\n\r\n", path); err != nil {
		return err
	}
	return readAnswer(conn)
}

func readAnswer(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
