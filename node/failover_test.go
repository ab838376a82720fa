package node_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node"
)

// TestANodeStartsDuringADatabaseFailover starts many nodes. For each node the database goes away for a second, at another
// message that the node sends while it starts. Each node must wait, and become ready.
func TestANodeStartsDuringADatabaseFailover(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		undisturbed := w.startBehindProxy(t, 0)
		if undisturbed < 5 {
			t.Fatalf("a start sends only %d messages to the database: the test shows nothing", undisturbed)
		}
		turns := make(chan struct{}, 12) // nodes that start at the same time
		var starts sync.WaitGroup
		for message := range undisturbed {
			turns <- struct{}{}
			starts.Go(func() {
				w.startBehindProxy(t, message+1)
				<-turns
			})
		}
		starts.Wait()
		t.Logf("the database went away at each of %d messages", undisturbed)
	})
}

// startBehindProxy starts a node whose database goes away at the given message, and stops the node once it is ready.
// It returns the number of messages until then.
func (w *world) startBehindProxy(t *testing.T, cutAt int) (messages int) {
	settings := w.settings(t)
	credentials, rest, _ := strings.Cut(settings.DB.URL, "@")
	hosts, options, _ := strings.Cut(rest, "/")
	first, _, _ := strings.Cut(hosts, ",")
	p := mustProxy(t, first, cutAt)
	settings.DB.URL = credentials + "@" + p.listener.Addr().String() + "/" + options
	n, err := node.New(settings, deps)
	if err != nil {
		t.Error(err)
		return 0
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); !ready(settings.Ops.Addr); time.Sleep(10 * time.Millisecond) { // poll
		select {
		case err := <-ended:
			t.Errorf("cut at message %d: the start ended with %v", cutAt, err)
			return 0
		default:
		}
		if time.Now().After(deadline) {
			t.Errorf("cut at message %d: not ready after a minute", cutAt)
			break
		}
	}
	messages = p.count()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("cut at message %d: stopped with %v", cutAt, err)
	}
	return messages
}

// proxy stands between a node and its database, and counts what the node sends. At one message it closes all
// connections, and for a second it closes each new connection at once.
type proxy struct {
	listener net.Listener
	target   string
	cutAt    int
	running  sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	messages int
	cutUntil time.Time
	conns    map[net.Conn]struct{}
}

func mustProxy(t *testing.T, target string, cutAt int) *proxy {
	t.Helper()
	p := &proxy{target: target, cutAt: cutAt, conns: make(map[net.Conn]struct{})}
	var err error
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.running.Go(func() {
		for {
			conn, err := p.listener.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.closeAll()
		p.running.Wait()
	})
	return p
}

func (p *proxy) carry(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // broken or not, it is over
	database, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer database.Close() //nolint:errcheck // as above
	p.mu.Lock()
	if time.Now().Before(p.cutUntil) {
		p.mu.Unlock()
		return
	}
	p.conns[conn], p.conns[database] = struct{}{}, struct{}{}
	p.mu.Unlock()
	p.running.Go(func() {
		_, _ = io.Copy(conn, database)
		_ = conn.Close()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil || p.cut() {
			return
		}
		if _, err := database.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut counts a message, and reports whether it was the one at which the database goes away.
func (p *proxy) cut() bool {
	p.mu.Lock()
	p.messages++
	now := p.messages == p.cutAt
	if now {
		p.cutUntil = time.Now().Add(time.Second)
	}
	p.mu.Unlock()
	if now {
		p.closeAll()
	}
	return now
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	clear(p.conns)
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.messages
}
