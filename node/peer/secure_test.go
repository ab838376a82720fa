package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/node/punch"
)

// node holds the certificates of a node and reloads them.
type node struct {
	source *certs.Source
	log    *bytes.Buffer
	mu     *sync.Mutex
}

func (n node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

func (n node) said() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

const deployment = "test"

func mustMake(t *testing.T, dir certs.Dir) {
	t.Helper()
	if err := dir.Make(certs.Dev{Deployment: deployment, Regions: []string{"us-east", home}, DatabaseHosts: []string{"localhost"}, Life: time.Hour}); err != nil {
		t.Fatal(err)
	}
}

func mustNode(t *testing.T, dir certs.Dir, region string) node {
	t.Helper()
	n := node{log: new(bytes.Buffer), mu: new(sync.Mutex)}
	set, err := certs.New(certs.Config{CheckEvery: 10 * time.Millisecond}, certs.Deps{Log: slog.New(slog.NewTextHandler(n, nil)), Meter: metricnoop.NewMeterProvider()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	certificate, key := dir.Node(region)
	n.source, err = set.Load(certs.Files{
		Certificate: certs.File{Path: certificate}, Key: certs.File{Path: key}, CA: certs.File{Path: dir.CAFile()},
		Self: certs.Name{Deployment: deployment, Region: region},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (n node) client(region string) *tls.Config {
	return n.source.PeerClient(certs.Name{Deployment: deployment, Region: region})
}

// mustServeTLS runs the handler with mutual TLS, as a node does.
func mustServeTLS(t *testing.T, n node, home Home, state func(net.Conn, http.ConnState)) string {
	t.Helper()
	server := httptest.NewUnstartedServer(NewHandler(Deps{Home: home, Gate: admission.Open{}, Tracer: tracenoop.NewTracerProvider(), CallerRegion: certs.CallerRegion}))
	server.Listener = tls.NewListener(server.Listener, nextProtocol(n.source.PeerServer(deployment)))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP2(true)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Config.ConnState = state
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// nextProtocol adds HTTP/2 to the configuration, as http.Server.ServeTLS does.
func nextProtocol(c *tls.Config) *tls.Config {
	c.NextProtos = []string{"h2"}
	return c
}

var settled = homeFunc(func(items []punch.Item) []punch.Outcome { return make([]punch.Outcome, len(items)) })

// TestRenewalDropsNoCall replaces the certificates of both ends again and again. Meanwhile calls run on one connection
// that stays, and on new connections.
func TestRenewalDropsNoCall(t *testing.T) {
	dir := certs.Dir(t.TempDir())
	mustMake(t, dir)
	server, caller := mustNode(t, dir, home), mustNode(t, dir, "us-east")
	var connections atomic.Int64
	addr := mustServeTLS(t, server, settled, func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	})
	staying := mustClient(t, caller.client)
	call := func(c *Client) error {
		_, _, err := c.RecordBatch(t.Context(), home, addr, []punch.Item{anItem(t.Context(), "anna")})
		return err
	}
	if err := call(staying); err != nil {
		t.Fatal(err)
	}
	if n := connections.Load(); n != 1 {
		t.Fatalf("%d connections for one call", n)
	}

	ctx, stop := context.WithCancel(t.Context())
	var stays, fresh, made atomic.Int64
	var load sync.WaitGroup
	load.Go(func() {
		for ctx.Err() == nil {
			if err := call(staying); err != nil {
				t.Errorf("on the connection that stays: %v", err)
			}
			stays.Add(1)
		}
	})
	load.Go(func() {
		for ctx.Err() == nil {
			c := NewClient(caller.client)
			made.Add(1)
			if err := call(c); err != nil {
				t.Errorf("on a new connection: %v", err)
			}
			c.Close()
			fresh.Add(1)
		}
	})
	renewals := func() int {
		return min(strings.Count(server.said(), "were loaded"), strings.Count(caller.said(), "were loaded"))
	}
	for want := 1; want <= 5; want++ {
		mustMake(t, dir)
		sent := stays.Load()
		sentFresh := fresh.Load()
		await(t, "both ends hold the new certificates, and calls went on", func() bool {
			return renewals() >= want && stays.Load() > sent+10 && fresh.Load() > sentFresh+2
		})
	}
	stop()
	load.Wait()
	if n := connections.Load(); n != 1+made.Load() {
		t.Errorf("%d connections, want 1 that stayed and %d new ones", n, made.Load())
	}
	t.Logf("%d calls on one connection, %d on new ones, over 5 renewals", stays.Load(), fresh.Load())
}

// TestUnknownCallersAreRefused holds that a caller without the right certificate is refused before a request is read.
func TestUnknownCallersAreRefused(t *testing.T) {
	dir, other := certs.Dir(t.TempDir()), certs.Dir(t.TempDir())
	mustMake(t, dir)
	mustMake(t, other)
	server, caller, stranger := mustNode(t, dir, home), mustNode(t, dir, "us-east"), mustNode(t, other, "us-east")
	called := false
	addr := mustServeTLS(t, server, homeFunc(func(items []punch.Item) []punch.Outcome {
		called = true
		return make([]punch.Outcome, len(items))
	}), nil)
	for who, c := range map[string]*Client{
		"plain text":           mustClient(t, nil),
		"another authority":    mustClient(t, stranger.client),
		"no certificate":       mustClient(t, func(region string) *tls.Config { c := caller.client(region); c.GetClientCertificate = nil; return c }),
		"means another region": mustClient(t, func(string) *tls.Config { return caller.client("ap-south") }),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, _, err := c.RecordBatch(ctx, home, addr, []punch.Item{anItem(ctx, "anna")})
		cancel()
		if err == nil || called || ctx.Err() == context.DeadlineExceeded {
			t.Errorf("%s: %v, served: %t; want a refusal at once", who, err, called)
		}
	}
	// A node sends nothing to a server that is not the node it meant to call.
	plain := mustServe(t, settled)
	if _, _, err := mustClient(t, caller.client).RecordBatch(t.Context(), home, plain, nil); err == nil {
		t.Error("a server without TLS was taken for a node")
	}
	impostor := mustServeTLS(t, stranger, settled, nil)
	if _, _, err := mustClient(t, caller.client).RecordBatch(t.Context(), "us-east", impostor, nil); err == nil {
		t.Error("a server of another authority was taken for a node")
	}
}

// TestACallerSpeaksForItsOwnRegion holds that the entry region of a row is the region in the caller's certificate.
func TestACallerSpeaksForItsOwnRegion(t *testing.T) {
	dir := certs.Dir(t.TempDir())
	mustMake(t, dir)
	server := mustNode(t, dir, home)
	var served atomic.Int64
	addr := mustServeTLS(t, server, homeFunc(func(items []punch.Item) []punch.Outcome {
		served.Add(int64(len(items)))
		return make([]punch.Outcome, len(items))
	}), nil)
	own, foreign := anItem(t.Context(), "anna"), anItem(t.Context(), "bert")
	foreign.EntryRegion = home
	for caller, want := range map[string]int64{"us-east": 1, home: 0} {
		served.Store(0)
		_, _, err := mustClient(t, mustNode(t, dir, caller).client).RecordBatch(t.Context(), home, addr, []punch.Item{own})
		if (err == nil) != (want > 0) || served.Load() != want {
			t.Errorf("a punch that entered in us-east from a node of %s: %v, %d served", caller, err, served.Load())
		}
	}
	served.Store(0)
	_, _, err := mustClient(t, mustNode(t, dir, "us-east").client).RecordBatch(t.Context(), home, addr, []punch.Item{own, foreign})
	if connect.CodeOf(err) != connect.CodePermissionDenied || served.Load() != 0 {
		t.Errorf("one of two punches entered elsewhere: %v, %d served", err, served.Load())
	}
}

// TestAFrozenPeerFailsItsCalls calls through a relay that stops passing bytes on. HTTP/2 pings must work over TLS, too.
func TestAFrozenPeerFailsItsCalls(t *testing.T) {
	dir := certs.Dir(t.TempDir())
	mustMake(t, dir)
	server, caller := mustNode(t, dir, home), mustNode(t, dir, "us-east")
	reached := make(chan struct{}, 1)
	release := make(chan struct{})
	addr := mustServeTLS(t, server, homeFunc(func(items []punch.Item) []punch.Outcome {
		reached <- struct{}{}
		<-release
		return make([]punch.Outcome, len(items))
	}), nil)
	var frozen atomic.Bool
	relay := mustRelay(t, addr, &frozen)
	c := mustClient(t, caller.client)
	failed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, _, err := c.RecordBatch(ctx, home, relay, []punch.Item{anItem(ctx, "anna")})
		if ctx.Err() != nil {
			err = nil // only its own deadline ended the call
		}
		failed <- err
	}()
	<-reached
	frozen.Store(true)
	began := time.Now()
	if err := <-failed; err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("a call to a frozen peer ended after %s: %v, want an error after two seconds", time.Since(began), err)
	}
	close(release)
}

// mustRelay passes bytes on until it is frozen, and then only reads them.
func mustRelay(t *testing.T, to string, frozen *atomic.Bool) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		onward, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		var both sync.WaitGroup
		for _, way := range [][2]net.Conn{{from, onward}, {onward, from}} {
			both.Go(func() {
				b := make([]byte, 32<<10)
				for {
					n, err := way[0].Read(b)
					if err == nil && !frozen.Load() {
						_, err = way[1].Write(b[:n])
					}
					if err != nil {
						_, _ = way[0].Close(), way[1].Close()
						return
					}
				}
			})
		}
		both.Wait()
	})
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// await polls until done, for at most 20 s.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within 20 s: %s", what)
		}
	}
}
