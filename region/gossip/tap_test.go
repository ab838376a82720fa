package gossip

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/punchclock/punchclock/region"
)

// tap records the bytes that nodes write to the network.
type tap struct {
	mu      sync.Mutex // guards written
	written []byte
}

func (p *tap) write(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written = append(append(p.written, b...), 0)
}

func (p *tap) has(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.written, []byte(text))
}

type tapped struct {
	memberlist.NodeAwareTransport
	*tap
}

func (t tapped) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	t.write(b)
	return t.NodeAwareTransport.WriteToAddress(b, a)
}

func (t tapped) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := t.NodeAwareTransport.DialAddressTimeout(a, timeout)
	if err != nil {
		return nil, err
	}
	return tappedConn{c, t.tap}, nil
}

type tappedConn struct {
	net.Conn
	tap *tap
}

func (c tappedConn) Write(b []byte) (int, error) {
	c.tap.write(b)
	return c.Conn.Write(b)
}

// TestWire holds that with keys the wire shows no text, and that a forged message without encryption is ignored.
// Without keys both must fail, which shows that the test can detect them.
func TestWire(t *testing.T) {
	for name, keys := range map[string][][]byte{"encrypted": {key(1)}, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire, p := new(tap), fast()
			p.wrap = func(n memberlist.NodeAwareTransport) memberlist.NodeAwareTransport { return tapped{n, wire} }
			withKeys := withConfig(func(c *Config) { c.Keys = keys })
			a := mustStart(t, "us-east", "a", withTimings(p), withKeys)
			b := mustStart(t, "eu-west", "b", withTimings(p), withKeys, withSeeds(a.Addr()))
			converge(t, a, b)
			received := func(n *testNode, r string) func() bool { return func() bool { return n.has(r, 1) } }
			a.send("a-packet", 1)
			eventually(t, "the switch arrives at b", received(b, "a-packet"))
			// The push/pull of b has the first two texts, and a packet of a has the third.
			for _, text := range []string{"eu-west", "b.example", "a-packet"} {
				if wire.has(text) != (keys == nil) {
					t.Errorf("%q can be read on the wire: %t", text, wire.has(text))
				}
			}

			c, err := net.Dial("udp", a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()                      //nolint:errcheck // nothing waits to be written
			const labelled, userMessage = 244, 8 // message types of memberlist
			forged := slices.Concat([]byte{labelled, byte(len("test"))}, []byte("test"), []byte{userMessage}, switchMessage(region.Switch{Region: "forged", Level: 1, Version: 1}))
			if _, err := c.Write(forged); err != nil {
				t.Fatal(err)
			}
			if keys == nil {
				eventually(t, "the forged switch arrives at a", received(a, "forged"))
			}
			b.send("after-it", 1)
			eventually(t, "the next switch of b arrives at a", received(a, "after-it"))
			if keys != nil && (received(a, "forged")() || received(b, "forged")()) {
				t.Error("a message without encryption was accepted")
			}
		})
	}
}
