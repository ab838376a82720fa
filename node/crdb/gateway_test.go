package crdb

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// proxy is a TCP proxy in front of a database gateway, and fails as a gateway can fail. It can lose the answer to a
// committed statement. It can be silent: it accepts connections and answers nothing.
type proxy struct {
	net.Listener
	target string
	wg     sync.WaitGroup

	mute    atomic.Bool  // drop all answers from now on
	delay   atomic.Int64 // nanoseconds before each answer
	frozen  atomic.Bool  // with mute: keep all connections open
	thaw    chan struct{}
	cutNext atomic.Bool  // pass on the next statement, then cut the connection in place of the answer
	opened  atomic.Int64 // connections accepted

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func mustProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	g := &proxy{Listener: listener, target: target, thaw: make(chan struct{})}
	g.wg.Go(g.accept)
	tb.Cleanup(func() {
		_ = listener.Close()
		close(g.thaw)
		g.mu.Lock()
		for _, c := range g.conns {
			_ = c.Close()
		}
		g.mu.Unlock()
		g.wg.Wait()
	})
	return g
}

func (g *proxy) accept() {
	for {
		client, err := g.Accept()
		if err != nil {
			return
		}
		g.opened.Add(1)
		server, err := net.Dial("tcp", g.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		g.mu.Lock()
		g.conns = append(g.conns, client, server)
		g.mu.Unlock()
		g.wg.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
		g.wg.Go(func() { g.answer(client, server) })
	}
}

func (g *proxy) answer(client, server net.Conn) {
	defer client.Close() //nolint:errcheck // both ends close together
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil || g.cutNext.CompareAndSwap(true, false) {
			if g.frozen.Load() {
				<-g.thaw
			}
			return
		}
		if g.mute.Load() {
			continue
		}
		time.Sleep(time.Duration(g.delay.Load())) // this delay is the failure
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// through replaces the first gateway of a connection URL by the proxy and keeps the given number of others after it.
func through(tb testing.TB, g *proxy, dsn string, others int) string {
	tb.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	hosts := []string{g.Addr().String()}
	for i, h := range strings.Split(u.Host, ",") {
		if i < others {
			hosts = append(hosts, h)
		}
	}
	u.Host = strings.Join(hosts, ",")
	return u.String()
}

func firstAddress(tb testing.TB, dsn string) string {
	tb.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Split(u.Host, ",")[0]
}

func TestALostAnswerIsFoundByRepeating(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		dsn := s.server.URL("us-east")
		g := mustProxy(t, firstAddress(t, dsn))
		db := mustOpen(t, s.server, through(t, g, dsn, 0))
		company := db.company("us-east")
		w := db.Writer("us-east")
		warm := db.item(company, "us-east", "warm")
		wantCode(t, w.Write(db.ctx, []punch.Item{warm})[0], "") // so that the next answer is the insert's
		item := db.item(company, "us-east", "anna")
		g.cutNext.Store(true)
		o := w.Write(db.ctx, []punch.Item{item})[0]
		wantCode(t, o, "")
		if g.cutNext.Load() {
			t.Fatal("no answer was cut: the test proves nothing")
		}
		if o.Receipt.Replayed {
			t.Error("the caller's own punch counts as a replay")
		}
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1 AND employee_id = 'anna'`, company); n != 1 {
			t.Fatalf("%d rows, want 1", n)
		}
	})
}

func TestASilentGatewayIsAvoided(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		dsn := s.server.URL("us-east")
		g := mustProxy(t, firstAddress(t, dsn))
		cfg := testConfig(through(t, g, dsn, 1))
		cfg.AttemptTimeout = time.Second
		gray, err := Open(s.ctx, cfg, testDeps())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(gray.Close)
		company := s.company("us-east")
		w := gray.Writer("us-east")
		wantCode(t, w.Write(s.ctx, []punch.Item{s.item(company, "us-east", "before")})[0], "")
		if g.opened.Load() == 0 {
			t.Fatal("the proxy was not used: the test proves nothing")
		}
		g.mute.Store(true)
		wantCode(t, w.Write(s.ctx, []punch.Item{s.item(company, "us-east", "during")})[0], "")
		awaitUnhealthy(t, gray, true)
		missing := s.item(company, "us-east", "x")
		if _, err := gray.Find(s.ctx, "us-east", missing.Key()); punch.CodeOf(err) != punch.NotFound {
			t.Errorf("a read that avoids the silent gateway: %v", err)
		}
		g.mute.Store(false)
		awaitUnhealthy(t, gray, false)
		wantCode(t, w.Write(s.ctx, []punch.Item{s.item(company, "us-east", "after")})[0], "")
	})
}

// TestAForwardedPunchReachesTheSecondGateway has less time than one attempt may take, and its first gateway is silent. All
// times are twice those of the product, because a connection takes seconds on a machine that does other work.
func TestAForwardedPunchReachesTheSecondGateway(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		db, g := s.openBehindProxy(1, 10*time.Second, testDeps())
		company := s.company("us-east")
		g.mute.Store(true)
		ctx, cancel := context.WithTimeout(s.ctx, 9400*time.Millisecond) // two thirds of 15 s, less the way
		defer cancel()
		wantCode(t, db.Writer("us-east").Write(ctx, []punch.Item{s.item(company, "us-east", "anna")})[0], "")
	})
}

// TestASlowGatewayIsAvoided delays the answers of the nearest gateway. No attempt fails, and other gateways answer
// sooner.
func TestASlowGatewayIsAvoided(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		db, g := s.openBehindProxy(1, 10*time.Second, testDeps())
		company := s.company("us-east")
		w := db.Writer("us-east")
		write := func(employee string) {
			wantCode(t, w.Write(s.ctx, []punch.Item{s.item(company, "us-east", employee)})[0], "")
		}
		write("before")
		awaitIdle(t, db)
		g.delay.Store(int64(slowPing) + int64(slowPing)/2)
		write("during")
		awaitUnhealthy(t, db, true)
		// A new connection would take longer than a ping may. So the gateway would stay down for ever.
		await(t, "the gateway is slow", func() bool { return health(db.gateways.all[0].health.Load()) == slow })
		connections := g.opened.Load()
		write("around")
		if h := db.gateways.pick(0); h == db.gateways.all[0] || h == db.gateways.pick(1) != (len(db.gateways.all) == 2) {
			t.Errorf("attempts go to %s and %s", h.addr, db.gateways.pick(1).addr)
		}
		if g.opened.Load() > connections+1 { // one ping
			t.Error("the slow gateway was still used")
		}
		g.delay.Store(0)
		for range promptPingsNeeded { // sooner than the watcher's own pings
			db.gateways.probes <- db.gateways.all[0]
		}
		awaitUnhealthy(t, db, false)
	})
}

// awaitIdle waits for a connection that a ping of each gateway can use. Pools connect in the background. Through a slow
// proxy a new connection takes longer than a ping may.
func awaitIdle(t *testing.T, db *DB) {
	t.Helper()
	await(t, "each gateway has an idle connection", func() bool {
		return !slices.ContainsFunc(db.gateways.all, func(g *gateway) bool { return g.control.Stat().IdleConns() == 0 })
	})
}

// TestGatewaysThatAreAllSlowAreUsed delays the answers of both gateways. The nearest stays the first.
func TestGatewaysThatAreAllSlowAreUsed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		dsn := s.server.URL("us-east")
		near, far := mustProxy(t, firstAddress(t, dsn)), mustProxy(t, firstAddress(t, dsn))
		cfg := testConfig(strings.Replace(through(t, near, dsn, 0), near.Addr().String(), near.Addr().String()+","+far.Addr().String(), 1))
		db := s.mustOpenWith(cfg, testDeps())
		awaitIdle(t, db)
		for _, g := range []*proxy{near, far} {
			g.delay.Store(int64(slowPing) + int64(slowPing)/5)
		}
		for _, h := range db.gateways.all {
			if db.gateways.probe(s.ctx, h); health(h.health.Load()) == slow {
				t.Errorf("%s counts as slow, and the other is no faster", h.addr)
			}
		}
		if h := db.gateways.pick(0); h != db.gateways.all[0] {
			t.Errorf("the first attempt goes to %s", h.addr)
		}
	})
}

// awaitUnhealthy waits until the first gateway is unhealthy, or healthy again.
func awaitUnhealthy(t *testing.T, db *DB, want bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for (health(db.gateways.all[0].health.Load()) != up) != want {
		if time.Now().After(deadline) {
			t.Fatalf("the first gateway is %s", health(db.gateways.all[0].health.Load()))
		}
		time.Sleep(20 * time.Millisecond) // poll
	}
}

func TestADeadGatewayIsAvoided(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		dsn := s.server.URL("us-east")
		g := mustProxy(t, firstAddress(t, dsn))
		url := through(t, g, dsn, 1)
		_ = g.Close() // refuses from now on; Open must find the second gateway
		db := mustOpen(t, s.server, url)
		company := s.company("us-east")
		wantCode(t, db.Writer("us-east").Write(s.ctx, []punch.Item{s.item(company, "us-east", "anna")})[0], "")
	})
}

func TestAddresses(t *testing.T) {
	for dsn, want := range map[string]string{ // how often each gateway is tried, with TLS and without
		"postgres://a:1,b:2,c:3/x?sslmode=prefer":  "a:1 2 b:2 2 c:3 2",
		"postgres://a:1,b:2/x?sslmode=disable":     "a:1 1 b:2 1",
		"postgres://[::1]:5/x?sslmode=verify-full": "[::1]:5 1",
	} {
		var got []string
		for _, a := range addresses(mustParse(t, dsn)) {
			got = append(got, fmt.Sprint(a, 1+len(a.alternatives)))
			for _, f := range a.alternatives {
				if f.Host != a.host || f.Port != a.port {
					t.Errorf("%s: %s falls back to %s:%d", dsn, a, f.Host, f.Port)
				}
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s has the hosts %v, want %v", dsn, got, want)
		}
	}
}

func TestConfigIsValidated(t *testing.T) {
	good := testConfig("postgres://a:1/x")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"--database-url":     func(c *Config) { c.URL = "postgres://a:port/x" },
		"ConnectionsPerHome": func(c *Config) { c.ConnectionsPerHome = 0 },
		"ReadConnections":    func(c *Config) { c.ReadConnections = 0 },
		"MoveConnections":    func(c *Config) { c.MoveConnections = -1 },
		"ConnectTimeout":     func(c *Config) { c.ConnectTimeout = 0 },
		"AttemptTimeout":     func(c *Config) { c.AttemptTimeout = -time.Second },
	} {
		bad := good
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("a bad %s: %v, want an error that names it", field, err)
		}
	}
}
