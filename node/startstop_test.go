package node_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/node/lab/cluster"
)

var deps = node.Deps{Log: discard, Clock: time.Now}

// settings returns the settings of a node in this process, on free ports.
func (w *world) settings(t *testing.T) config.Node {
	t.Helper()
	settings := config.Node{
		Region: "us-east", Name: "in-process", Weight: 100,
		Public:     config.Public{Addr: "127.0.0.1:0", MaxBody: 1 << 20, MaxConnections: 100},
		Peer:       config.Peer{Addr: "127.0.0.1:0", MaxCalls: 1},
		Ops:        config.Ops{Addr: freeAddr(t)},
		Gossip:     config.Gossip{Addr: "127.0.0.1:0"},
		Deployment: t.Name(), // a cluster of its own, see secure
		DB: config.DB{
			URL: w.nodeURL("us-east"), ConnectionsPerHome: 1, ReadConnections: 1, ConnectTimeout: 2 * time.Second,
		},
		Tokens:   config.Tokens{JWKS: shared.jwks, Issuer: "punchclock", Audience: "punchclock", EmployeeClaim: "sub"},
		Overload: config.Overload{Wait: time.Second},
		Queue:    config.Queue{MaxItems: 10, MaxBytes: 1 << 20, MaxWait: time.Second}, Batch: config.Batch{MaxItems: 10},
		Directory:    config.Directory{Capacity: 1000, Refresh: time.Minute},
		PunchTimeout: 15 * time.Second, ShutdownTimeout: 20 * time.Second, Development: true,
	}
	secure(t, &settings)
	return settings
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addrs, err := cluster.FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

// TestStartStopStress stops nodes at many moments of their start and after it. No stop may hang or leave a goroutine.
func TestStartStopStress(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		http.DefaultClient.CloseIdleConnections()
		before := goleak.IgnoreCurrent()
		for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
			n, err := node.New(w.settings(t), deps)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), after)
			if err := n.Run(ctx); err != nil {
				t.Errorf("stopped after %s: %v", after, err)
			}
			cancel()
		}
		for range 3 {
			runWhileReady(t, w.settings(t), func() {})
		}
		goleak.VerifyNone(t, before)
	})
}

// runWhileReady runs a node until it is ready and do has returned.
func runWhileReady(t *testing.T, settings config.Node, do func()) {
	t.Helper()
	n, err := node.New(settings, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	deadline := time.Now().Add(30 * time.Second)
	for !ready(settings.Ops.Addr) {
		if time.Now().After(deadline) {
			t.Error("not ready in 30 s")
			break
		}
		time.Sleep(10 * time.Millisecond) // poll
	}
	do()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func ready(ops string) bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	res, err := client.Get("http://" + ops + "/readyz")
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func TestANodeDoesNotStartWithWrongSettings(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close() //nolint:errcheck // nobody connected
		notKeys := filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(notKeys, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		for want, change := range map[string]func(*config.Node){
			"--region":                  func(c *config.Node) { c.Region = "mars"; secure(t, c) },
			"--queue-max-items":         func(c *config.Node) { c.Queue.MaxItems = 0 },
			"public listener":           func(c *config.Node) { c.Public.Addr = taken.Addr().String() },
			"--token-jwks":              func(c *config.Node) { c.Tokens.JWKS = notKeys },
			"development":               func(c *config.Node) { c.Development = false },
			"run `punchclock migrate`":  func(c *config.Node) { c.DB.URL = strings.Replace(c.DB.URL, "/clock?", "/"+w.emptyDatabase(t)+"?", 1) },
			"database \"nowhere\" does": func(c *config.Node) { c.DB.URL = strings.Replace(c.DB.URL, "/clock?", "/nowhere?", 1) },
			"--gossip-key-file":         func(c *config.Node) { c.Gossip.KeyFile = notKeys },
			"--peer-cert-file":          func(c *config.Node) { c.Peer.CertFile = notKeys },
			"--peer-ca-file":            func(c *config.Node) { c.Peer.CAFile = notKeys },
			"--database-url":            func(c *config.Node) { c.DB.URL = strings.Replace(c.DB.URL, "verify-full", "require", 1) },
		} {
			settings := w.settings(t)
			change(&settings)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			n, err := node.New(settings, deps)
			if err == nil {
				err = n.Run(ctx)
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want an error with %q, got: %v", want, err)
			}
			cancel()
		}
	})
}

func (w *world) emptyDatabase(t *testing.T) string {
	t.Helper()
	const name = "empty"
	if w.cluster.Database == nil {
		t.Fatal("the cluster has no database of its own")
	}
	if err := w.cluster.Database.CreateDatabase(testContext(t), name); err != nil {
		t.Fatal(err)
	}
	return name
}
