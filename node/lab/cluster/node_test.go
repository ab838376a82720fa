package cluster

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// nodesOnly is a cluster of stand-in nodes. They never use its database.
func nodesOnly(tb testing.TB) Config {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return Config{
		Binary: self, Dir: testDir(tb), DatabaseURL: "postgres://nobody@127.0.0.1:1/clock",
		JWKS: "keys.json", Log: testLog(tb),
	}
}

func mustStart(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	c, err := Start(testContext(tb), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func TestNodes(t *testing.T) {
	cfg := nodesOnly(t)
	cfg.ExtraEnv = func(n *Node) []string { return []string{"PUNCHCLOCK_WEIGHT=200", "OTEL_SERVICE_NAME=" + n.Name} }
	cfg.ExtraFlags = []string{"--drain-delay=3s"}
	t.Setenv("PUNCHCLOCK_NO_SUCH_SETTING", "1h") // a node that inherited it would refuse to start
	c := mustStart(t, cfg)
	if len(c.Nodes()) != 6 || len(c.Region("eu-west")) != 2 || len(c.Region("mars")) != 0 {
		t.Fatalf("%d nodes, %d in eu-west; expected 6 and 2", len(c.Nodes()), len(c.Region("eu-west")))
	}
	var pids []int
	var addrs []string
	for _, n := range c.Nodes() {
		if err := n.ready(testContext(t)); err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		pids = append(pids, n.PID())
		addrs = append(addrs, n.PublicURL, n.OpsURL, n.PeerAddr, n.GossipAddr)
		host := strings.TrimPrefix(n.Name, n.Region+"-")
		if log := mustRead(t, n.Logs()); !strings.Contains(log, "serving "+n.Region+" "+host+" 3s 200\n") {
			t.Errorf("%s logged %q", n.Name, log)
		}
	}
	slices.Sort(addrs)
	if n := len(slices.Compact(addrs)); n != 4*6 {
		t.Errorf("%d different addresses, expected 24", n)
	}
	if err := c.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	mustVanish(t, pids...)
	mustBeEmpty(t, cfg.Dir)
	if err := c.Nodes()[0].Restart(testContext(t)); err == nil {
		t.Error("a node started in a stopped cluster")
	}
	if err := c.Stop(testContext(t)); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
}

func mustRead(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestNodeLife(t *testing.T) {
	cfg := nodesOnly(t)
	cfg.Regions, cfg.NodesPerRegion = []string{"here"}, 1
	c := mustStart(t, cfg)
	ctx, n := testContext(t), c.Nodes()[0]
	first, public := n.PID(), n.PublicURL

	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	// The kernel stops one thread after the other, so the node may still answer a request or two.
	silent := func() bool {
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		return errors.Is(n.ready(short), context.DeadlineExceeded)
	}
	for !silent() {
		if ctx.Err() != nil {
			t.Fatal("a frozen node goes on answering")
		}
	}
	if err := n.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := n.ready(ctx); err != nil {
		t.Errorf("after Thaw: %v", err)
	}

	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if alive(first) {
		t.Error("a killed node is alive")
	}
	if err := n.Wait(ctx); err == nil {
		t.Error("Wait for a killed node returned no error")
	}
	if err := n.Freeze(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Freeze of a node that is gone: %v", err)
	}
	if err := n.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	second := n.PID()
	if second == first || n.PublicURL != public {
		t.Errorf("restarted %d at %s as %d at %s; expected another process on the same address", first, public, second, n.PublicURL)
	}
	if err := n.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(ctx); err != nil { // also a frozen node
		t.Fatal(err)
	}
	if err := n.Wait(ctx); err != nil {
		t.Errorf("Wait for a stopped node: %v", err)
	}
	if err := n.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	waiting, cancel := context.WithCancel(ctx)
	cancel()
	if err := n.Wait(waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a cancelled context: %v", err)
	}
}

// TestNodeDies: Stop reports a node that ended by itself.
func TestNodeDies(t *testing.T) {
	cfg := nodesOnly(t)
	cfg.Regions = []string{"here"}
	c, err := Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := c.Nodes()[1]
	mustCrash(t, n)
	err = c.Stop(testContext(t))
	mustContain(t, err, "here-n2", "ended by itself", "exit status 3", "crashed as told", c.Dir())
	if log := mustRead(t, n.Logs()); !strings.Contains(log, "crashed as told") {
		t.Errorf("the log says %q", log)
	}
	if left := processesIn(t, cfg.Dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

func TestNodeLosesPort(t *testing.T) {
	cfg, err := nodesOnly(t).forNodes()
	if err != nil {
		t.Fatal(err)
	}
	ws, err := newWorkspace(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ws.pick = takenOnce(t)
	c := newCluster(cfg, ws)
	if err := c.bringUp(testContext(t), Engine{}); err != nil {
		t.Error(err)
	}
	if err := c.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	mustBeEmpty(t, cfg.Dir)
}

func TestStartFails(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		says   []string
	}{
		"no such binary": {func(c *Config) { c.Binary = "/no/such/binary" }, []string{"/no/such/binary"}},
		"binary fails":   {func(c *Config) { c.Binary = "/bin/false" }, []string{"migrate", "exit status 1", "(empty)", "logs are kept in"}},
		"bad setting": {func(c *Config) { c.ExtraFlags = []string{"--punch-timeout=1h"} },
			[]string{"node ", "exit status 1", "--punch-timeout: must be 1s to 2m", "logs are kept in"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := nodesOnly(t)
			test.change(&cfg)
			_, err := Start(testContext(t), cfg)
			mustContain(t, err, test.says...)
			if left := processesIn(t, cfg.Dir); len(left) > 0 {
				t.Errorf("still running: %v", left)
			}
			if data, _ := filepath.Glob(filepath.Join(cfg.Dir, "*", "data")); len(data) > 0 {
				t.Errorf("data of a failed start is kept: %v", data)
			}
		})
	}
}

func TestNeverReady(t *testing.T) {
	cfg := nodesOnly(t)
	cfg.Regions, cfg.NodesPerRegion = []string{"here"}, 1
	cfg.ExtraEnv = func(*Node) []string { return []string{refuseVariable + "=the schema is too old"} }
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	failure := make(chan error)
	go func() {
		_, err := Start(ctx, cfg)
		failure <- err
	}()
	for deadline := time.Now().Add(testDeadline); time.Now().Before(deadline); time.Sleep(pollEvery) {
		logs, _ := filepath.Glob(filepath.Join(cfg.Dir, "*", "logs", "here-n1.log"))
		if len(logs) > 0 && strings.Count(mustRead(t, logs[0]), "refused") >= 2 { // so the first answer has been read
			break
		}
	}
	cancel()
	mustContain(t, <-failure, "here-n1", "context canceled", "503", "the schema is too old")
	if left := processesIn(t, cfg.Dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	mustBeEmpty(t, cfg.Dir)
}

func TestFreeAddrs(t *testing.T) {
	l := newLoopback()
	addrs, err := freeAddrs(l.host(3), 20)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	if n := len(slices.Compact(addrs)); n != 20 {
		t.Errorf("%d different addresses of 20", n)
	}
	if taken(addrs...) {
		t.Error("free addresses count as taken")
	}
	pc, err := net.ListenPacket("udp4", addrs[7])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pc.Close() }()
	if !taken(addrs...) {
		t.Error("an address that is in use for UDP does not count as taken")
	}
}
