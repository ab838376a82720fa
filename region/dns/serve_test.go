package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/punchclock/punchclock/region"
)

// waitLimit is the limit of every wait in these tests. A test that passes never needs it.
const waitLimit = 60 * time.Second

func mustStart(t testing.TB, c *cluster, change ...func(*Config, *Deps)) *Server {
	t.Helper()
	s := mustNew(t, c, change...)
	if err := s.Start(context.Background()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not so after %s: %s", waitLimit, what)
}

func exchange(t testing.TB, s *Server, network string, q *miekg.Msg) *miekg.Msg {
	t.Helper()
	client := miekg.Client{Net: network, Timeout: waitLimit}
	reply, _, err := client.Exchange(q, s.Addr().String())
	if err != nil {
		t.Fatalf("%s over %s: %v", q.Question[0].String(), network, err)
	}
	return reply
}

func TestChangeIsAnsweredAtOnce(t *testing.T) {
	c := newCluster()
	var mu sync.Mutex // guards evacuated
	evacuated := false
	s := mustStart(t, c, func(_ *Config, d *Deps) {
		d.Evacuated = func(r region.Name) bool {
			mu.Lock()
			defer mu.Unlock()
			return evacuated && r == "us-east"
		}
	})
	answers := func(want ...string) func() bool {
		return func() bool {
			return slices.Equal(answered(exchange(t, s, "udp", question("clock.example.com.", miekg.TypeA))), addrs(want...))
		}
	}
	eventually(t, "us-east is answered", answers("192.0.1.1", "192.0.1.2"))
	mu.Lock()
	evacuated = true
	mu.Unlock()
	began := time.Now()
	eventually(t, "eu-west is answered", answers("192.0.2.1", "192.0.2.2"))
	t.Logf("withdrawn after %s", time.Since(began))
	c.set("eu-west", nil)
	eventually(t, "ap-south is answered", answers("192.0.3.1", "192.0.3.2"))
}

func TestBothTransportsAnswer(t *testing.T) {
	s := mustStart(t, newCluster())
	for _, network := range []string{"udp", "tcp"} {
		reply := exchange(t, s, network, question("eu-west.clock.example.com.", miekg.TypeAAAA))
		if got := answered(reply); !slices.Equal(got, addrs("2001:db8:2::1", "2001:db8:2::2")) {
			t.Errorf("over %s: %v", network, got)
		}
	}
}

// TestAnswerComesFromTheAskedAddress holds the source address of answers. A client drops an answer from another
// address.
func TestAnswerComesFromTheAskedAddress(t *testing.T) {
	for _, all := range []string{"0.0.0.0:0", "[::]:0"} {
		s := mustStart(t, newCluster(), func(c *Config, _ *Deps) {
			c.Addr, c.Networks = netip.MustParseAddrPort(all), mustNetworks(t, "127.0.0.0/8 eu-west\n")
		})
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.9.9.9"), s.Addr().Port()))
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, to) // receives packets of this address only
		if err != nil {
			t.Skipf("this machine has one loopback address: %v", err)
		}
		defer c.Close() //nolint:errcheck // nothing waits to be written
		client := miekg.Client{Timeout: waitLimit}
		reply, _, err := client.ExchangeWithConn(question("clock.example.com.", miekg.TypeA), &miekg.Conn{Conn: c})
		if err != nil || !slices.Equal(answered(reply), addrs("192.0.2.1", "192.0.2.2")) {
			t.Errorf("on %s answered %v, %v, want the region near to 127.0.0.1", all, reply, err)
		}
	}
}

func dialTCP(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConnectionMaySendSeveralQueries(t *testing.T) {
	s := mustStart(t, newCluster())
	c := &miekg.Conn{Conn: dialTCP(t, s)}
	var queries []byte // all of them are sent before the first answer
	names := []string{"clock.example.com.", "mars.clock.example.com.", "eu-west.clock.example.com."}
	for i, name := range names {
		q := question(name, miekg.TypeA)
		q.Id = uint16(i)
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		queries = append(binary.BigEndian.AppendUint16(queries, uint16(len(b))), b...)
	}
	if _, err := c.Conn.Write(queries); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if reply, err := c.ReadMsg(); err != nil || int(reply.Id) != i || reply.Question[0].Name != name {
			t.Fatalf("query %d is answered %v, %v", i, reply, err)
		}
	}
}

// TestIdleConnectionIsClosed covers clients that send nothing, or a part of a query.
func TestIdleConnectionIsClosed(t *testing.T) {
	s := mustNew(t, newCluster())
	s.idle = 50 * time.Millisecond
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // TestLifeCycle tests it
	for _, said := range [][]byte{nil, {0}, {0, 40, 1, 2, 3}} {
		c := dialTCP(t, s)
		if _, err := c.Write(said); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after %x: %v, want the connection to be closed", said, err)
		}
	}
}

func TestConnectionsOfOneClientAreLimited(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	s := mustStart(t, newCluster(), func(_ *Config, d *Deps) {
		d.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	})
	var held []net.Conn
	for range maxConnectionsPerClient {
		c := dialTCP(t, s)
		if err := (&miekg.Conn{Conn: c}).WriteMsg(question("clock.example.com.", miekg.TypeA)); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held { // an answer shows that the connection is open
		if _, err := (&miekg.Conn{Conn: c}).ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dialTCP(t, s).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one connection more is answered %v, want it to be closed", err)
	}
	if got := sum(t, reader, "punchclock.dns.dropped"); got != 1 {
		t.Errorf("%d connections were dropped, want one", got)
	}
	// UDP goes on, and a closed connection makes room.
	exchange(t, s, "udp", question("clock.example.com.", miekg.TypeA))
	_ = held[0].Close()
	eventually(t, "there is room again", func() bool {
		client := miekg.Client{Net: "tcp", Timeout: waitLimit}
		_, _, err := client.Exchange(question("clock.example.com.", miekg.TypeA), s.Addr().String())
		return err == nil
	})
	if got := sum(t, reader, "punchclock.dns.answers"); got < maxConnectionsPerClient+2 {
		t.Errorf("%d answers are counted", got)
	}
}

func sum(t *testing.T, reader *sdkmetric.ManualReader, name string) (total int64) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if m.Name == name {
				for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
					total += p.Value
				}
			}
		}
	}
	return total
}

func TestConnectionsAreLimited(t *testing.T) {
	var cs connections
	taken := 0
	for i := range 100 {
		from := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		for range 2 {
			if cs.add(new(net.TCPConn), from) {
				taken++
			}
		}
	}
	if taken != maxConnections {
		t.Errorf("%d connections of many addresses are open, want %d", taken, maxConnections)
	}
}

// TestIPv6NetworkIsOneClient holds that all addresses of a network of 64 bits count together.
func TestIPv6NetworkIsOneClient(t *testing.T) {
	var cs connections
	var open []*net.TCPConn
	of := func(i int) netip.Addr {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i)})
	}
	for i := range maxConnectionsPerClient {
		c := new(net.TCPConn)
		if open = append(open, c); !cs.add(c, of(i)) {
			t.Fatalf("connection %d is refused", i)
		}
	}
	if cs.add(new(net.TCPConn), of(99)) {
		t.Error("another address of the same network is accepted")
	}
	if !cs.add(new(net.TCPConn), netip.MustParseAddr("2001:db8:0:1::1")) || !cs.add(new(net.TCPConn), netip.MustParseAddr("::ffff:192.0.2.1")) {
		t.Error("addresses of other networks are refused")
	}
	cs.remove(open[0], of(0))
	if !cs.add(new(net.TCPConn), of(99)) {
		t.Error("a closed connection makes no room")
	}
}

func TestInvalidQueryEndsTheConnection(t *testing.T) {
	s := mustStart(t, newCluster())
	for name, sent := range map[string][]byte{
		"too long":  binary.BigEndian.AppendUint16(nil, maxPacket+1),
		"too short": {0, 1, 7},
		"an answer": append([]byte{0, 12}, bytes.Repeat([]byte{0xff}, 12)...),
	} {
		c := dialTCP(t, s)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v, want the connection to be closed", name, err)
		}
	}
}

func TestLifeCycle(t *testing.T) {
	c := newCluster()
	t.Run("close before start", func(t *testing.T) {
		s := mustNew(t, c)
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := s.Start(context.Background()); err == nil {
			t.Error("Start after Close is accepted")
		}
		if s.Addr().IsValid() {
			t.Errorf("the address is %s, want none", s.Addr())
		}
	})
	t.Run("start twice", func(t *testing.T) {
		s := mustStart(t, c)
		if err := s.Start(context.Background()); err == nil {
			t.Error("a second Start is accepted")
		}
	})
	t.Run("an address in use", func(t *testing.T) {
		s := mustStart(t, c)
		second := mustNew(t, c, func(cfg *Config, _ *Deps) { cfg.Addr = s.Addr() })
		if err := second.Start(context.Background()); err == nil {
			t.Error("an address in use is accepted")
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("close with an open connection", func(t *testing.T) {
		s := mustNew(t, c)
		s.idle = time.Hour // only Close can end the connection
		if err := s.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		conn := dialTCP(t, s)
		if err := (&miekg.Conn{Conn: conn}).WriteMsg(question("clock.example.com.", miekg.TypeA)); err != nil {
			t.Fatal(err)
		}
		if _, err := (&miekg.Conn{Conn: conn}).ReadMsg(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > waitLimit {
			t.Errorf("Close took %s: it waited for an idle connection", took)
		}
	})
}

func TestStartStopStress(t *testing.T) {
	c := newCluster()
	for range 20 {
		s := mustNew(t, c)
		if err := s.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		var busy sync.WaitGroup
		for _, network := range []string{"udp", "tcp"} {
			busy.Go(func() {
				client := miekg.Client{Net: network, Timeout: 100 * time.Millisecond}
				for range 20 { // Close may come first
					_, _, _ = client.Exchange(question("clock.example.com.", miekg.TypeA), s.Addr().String())
				}
			})
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		busy.Wait()
	}
}
