package cluster

import (
	"io"
	"net"
	"testing"
	"time"
)

// mustEcho answers every byte with itself.
func mustEcho(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // the other end belongs to the test
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return listener.Addr().String()
}

func TestProxyDelays(t *testing.T) {
	p, err := newProxy("127.0.0.1", mustEcho(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	c, err := net.Dial("tcp4", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // all bytes are sent
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	const delay = 100 * time.Millisecond
	p.Delay(delay)
	began := time.Now()
	const said = "a punch"
	if _, err := io.WriteString(c, said); err != nil {
		t.Fatal(err)
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(c, heard); err != nil || string(heard) != said {
		t.Fatalf("heard %q, %v", heard, err)
	}
	if took := time.Since(began); took < 2*delay {
		t.Errorf("an answer after %s, want a delay of %s in each direction", took, delay)
	}
	// Bytes that are still delayed must not delay the end.
	p.Delay(time.Hour)
	if _, err := io.WriteString(c, said); err != nil {
		t.Fatal(err)
	}
}

func TestProxyWithoutTarget(t *testing.T) {
	p, err := newProxy("127.0.0.1", "127.0.0.1:1") // a port without a listener
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.close() }()
	c, err := net.Dial("tcp4", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // nothing was sent
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("something answered")
	}
}
