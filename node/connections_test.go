package node

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// mustListen serves requests behind a bound of connections, and returns the address.
func mustListen(t *testing.T, c *connections) string {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	server.ConnState = c.follow
	go func() { _ = server.Serve(listener{Listener: plain, connections: c}) }()
	t.Cleanup(func() { _ = server.Close() })
	return plain.Addr().String()
}

func mustDial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // a test that hangs must end
	return conn
}

// ask sends a request over a connection and reports whether it was answered.
func ask(conn net.Conn) bool {
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return false
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	return err == nil && strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200")
}

// TestTheLongestIdleConnectionMakesRoom fills a server with idle connections and opens one more.
func TestTheLongestIdleConnectionMakesRoom(t *testing.T) {
	c := newConnections(3, nil)
	addr := mustListen(t, c)
	first, second, third := mustDial(t, addr), mustDial(t, addr), mustDial(t, addr)
	for _, conn := range []net.Conn{second, first, third} {
		if !ask(conn) {
			t.Fatal("a connection within the bound was not answered")
		}
		awaitIdle(t, c, conn)
	}
	fourth := mustDial(t, addr)
	if !ask(fourth) {
		t.Error("a new connection was not answered although others are idle")
	}
	if n, err := second.Read(make([]byte, 1)); err != io.EOF || n != 0 {
		t.Errorf("the connection that was idle longest got %d bytes, %v; want its end", n, err)
	}
	if !ask(first) || !ask(third) {
		t.Error("a connection that was used later was ended")
	}
	if _, shed := c.count(); shed != 1 {
		t.Errorf("%d connections were ended, want 1", shed)
	}
}

// awaitIdle waits until the server has seen that the connection is idle.
func awaitIdle(t *testing.T, c *connections, conn net.Conn) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.mu.Lock()
		for known := range c.places {
			if known.RemoteAddr().String() == conn.LocalAddr().String() {
				c.mu.Unlock()
				return
			}
		}
		c.mu.Unlock()
	}
	t.Fatal("the connection did not become idle")
}

// TestAnOverloadedNodeRefusesConnections holds that a refused connection ends at once, before its TLS handshake.
func TestAnOverloadedNodeRefusesConnections(t *testing.T) {
	var overloaded atomic.Bool
	c := newConnections(0, func() bool { return !overloaded.Load() })
	addr := mustListen(t, c)
	old := mustDial(t, addr)
	if !ask(old) {
		t.Fatal("no answer without overload")
	}
	overloaded.Store(true)
	// The reset may come before the dial has returned.
	if refused, err := net.Dial("tcp", addr); err == nil {
		if ask(refused) {
			t.Error("a new connection was taken under overload")
		}
		_ = refused.Close()
	}
	if !ask(old) {
		t.Error("an open connection ended under overload")
	}
	overloaded.Store(false)
	if !ask(mustDial(t, addr)) {
		t.Error("no answer after the overload")
	}
}
