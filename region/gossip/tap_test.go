package gossip

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// tap hears what nodes write to the network.
type tap struct {
	mu    sync.Mutex // guards heard
	heard []byte
}

func (p *tap) write(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(append(p.heard, b...), 0)
}

func (p *tap) has(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.heard, []byte(text))
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

// With keys nothing can be read on the wire, and nothing that is not encrypted
// is believed. Without them both can be, which shows that the test would see it.
func TestTheWire(t *testing.T) {
	for name, keys := range map[string][][]byte{"encrypted": {key(1)}, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire, p := new(tap), fast()
			p.wrap = func(n memberlist.NodeAwareTransport) memberlist.NodeAwareTransport { return tapped{n, wire} }
			withKeys := withConfig(func(c *Config) { c.Keys = keys })
			a := mustStart(t, "us-east", "a", withPace(p), withKeys)
			b := mustStart(t, "eu-west", "b", withPace(p), withKeys, withSeeds(a.Addr()))
			converge(t, a, b)
			heard := func(n *testNode, company string) func() bool {
				return func() bool { return slices.Contains(n.changes(company), 1) }
			}
			a.BroadcastCompany("a-packet", 1)
			eventually(t, "b hears of it", heard(b, "a-packet"))
			// The state of b's push/pull, and a packet of a's.
			for _, text := range []string{"eu-west", "b.example", "a-packet"} {
				if wire.has(text) != (keys == nil) {
					t.Errorf("%q can be read on the wire: %t", text, wire.has(text))
				}
			}

			c, err := net.Dial("udp", a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()                      //nolint:errcheck // nothing is pending
			const labelled, userMessage = 244, 8 // memberlist's types of messages
			forged := slices.Concat([]byte{labelled, byte(len("test"))}, []byte("test"), []byte{userMessage}, companyNews{company: "forged", version: 1}.encode())
			if _, err := c.Write(forged); err != nil {
				t.Fatal(err)
			}
			if keys == nil {
				eventually(t, "a hears what anybody says", heard(a, "forged"))
			}
			b.BroadcastCompany("after-it", 1)
			eventually(t, "a hears what b said after it", heard(a, "after-it"))
			if keys != nil && (heard(a, "forged")() || heard(b, "forged")()) {
				t.Error("what was not encrypted is believed")
			}
		})
	}
}
