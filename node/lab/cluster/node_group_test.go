package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// steps collects the steps that a change reports.
type steps struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (s *steps) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// want compares the first three words of the steps since the last call. Nodes that start at once report in any order.
func (s *steps) want(t *testing.T, inOrder bool, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, line := range s.lines {
		words := strings.Fields(line)
		got = append(got, strings.Join(words[:min(3, len(words))], " "))
	}
	s.lines = nil
	if !inOrder {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		t.Errorf("steps %q, expected %q", got, want)
	}
}

// mustStartWithout starts a cluster of stand-ins in which the nodes of the region here do not run yet.
func mustStartWithout(t *testing.T, change func(*Config)) (*Cluster, NodeGroup, *steps) {
	t.Helper()
	cfg := nodesOnly(t)
	cfg.Regions, cfg.WithoutNodes, cfg.NodesPerRegion = []string{"here", "there"}, []string{"here"}, 2
	if change != nil {
		change(&cfg)
	}
	return mustStart(t, cfg), NodeGroup{Count: 2, Binary: cfg.Binary}, new(steps)
}

func TestNodeGroup(t *testing.T) {
	c, group, told := mustStartWithout(t, nil)
	if state := c.State(); state.Nodes[0].PID != 0 || state.Nodes[2].PID == 0 {
		t.Fatalf("nodes %+v; expected that only those of there run", state.Nodes)
	}
	first := c.Nodes()[0]
	if _, err := net.Dial("tcp", address(first.PublicURL)); err == nil {
		t.Error("a reserved address accepts connections")
	}
	if _, err := net.Listen("tcp", address(first.PublicURL)); err == nil {
		t.Error("another process can take the address of a node that starts later")
	}
	mustSet := func() {
		t.Helper()
		if err := c.SetNodes(testContext(t), "here", group, told.say); err != nil {
			t.Fatal(err)
		}
	}
	mustSet()
	told.want(t, false, "here-n1 is ready", "here-n2 is ready")
	pid := first.PID()
	mustSet()
	told.want(t, true, "here-n1 runs already", "here-n2 runs already")
	if first.PID() != pid {
		t.Error("here-n1 was replaced although nothing had changed")
	}

	group.Settings = map[string]string{"weight": "200"}
	mustSet()
	told.want(t, true, "here-n1 is gone", "here-n1 is ready", "here-n2 is gone", "here-n2 is ready")
	if log := mustRead(t, first.Logs()); !strings.Contains(log, "serving here n1 1s 200\n") {
		t.Errorf("here-n1 ignored the setting; it logged %q", log)
	}

	died := make(chan struct{}, 9)
	c.notify(func() { died <- struct{}{} })
	mustCrash(t, first)
	<-died
	if state := c.State(); state.Nodes[0].Crashes != 1 || state.Nodes[1].Crashes != 0 {
		t.Errorf("%d and %d crashes, expected 1 and 0", state.Nodes[0].Crashes, state.Nodes[1].Crashes)
	}
	mustSet()
	told.want(t, false, "here-n1 had ended", "here-n1 is ready", "here-n2 runs already")

	group.Count = 1
	mustSet()
	told.want(t, true, "here-n1 runs already", "here-n2 is gone")
	for range 2 { // the second call has nothing to do
		if err := c.RemoveNodes(testContext(t), "here", told.say); err != nil {
			t.Fatal(err)
		}
	}
	told.want(t, true, "here-n1 is gone")
	if first.Running() || !c.Region("there")[0].Running() {
		t.Error("the nodes of here must be gone, and those of there must run")
	}
	if crashes := c.State().Nodes[0].Crashes; crashes != 1 {
		t.Errorf("%d crashes, expected 1: a node that was told to end has not crashed", crashes)
	}
}

func mustCrash(t *testing.T, n *Node) {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, n.OpsURL+"/crash", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("the node answered its crash")
	}
	if err := n.Wait(testContext(t)); err == nil {
		t.Error("the node ended with status 0")
	}
}

// A binary that was built again replaces nodes, also in the same place. The same binary in another place does not.
func TestNodeGroupComparesBinaries(t *testing.T) {
	c, group, told := mustStartWithout(t, nil)
	group.Count = 1
	group.Binary = filepath.Join(t.TempDir(), "punchclock")
	text := mustRead(t, c.cfg.Binary)
	for i, content := range []string{text, text + "built again"} {
		if err := os.WriteFile(group.Binary+".new", []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(group.Binary+".new", group.Binary); err != nil { // as go build does
			t.Fatal(err)
		}
		if err := c.SetNodes(testContext(t), "here", group, told.say); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			told.want(t, true, "here-n1 is ready")
			moved := NodeGroup{Count: 1, Binary: c.cfg.Binary}
			if err := c.SetNodes(testContext(t), "here", moved, told.say); err != nil {
				t.Fatal(err)
			}
			told.want(t, true, "here-n1 runs already")
		}
	}
	told.want(t, true, "here-n1 is gone", "here-n1 is ready")
}

// A node of an evacuated region is not ready, because the operator wants that. A start must not wait for it, and a
// second one must not replace it.
func TestNodeGroupInAnEvacuatedRegion(t *testing.T) {
	c, group, told := mustStartWithout(t, func(cfg *Config) {
		cfg.ExtraEnv = func(*Node) []string {
			return []string{refuseVariable + `={"status":"not ready","reasons":["the region is evacuated"]}`}
		}
	})
	group.Count = 1
	for range 2 {
		if err := c.SetNodes(testContext(t), "here", group, told.say); err != nil {
			t.Fatal(err)
		}
	}
	told.want(t, true, "here-n1 is ready", "here-n1 runs already")
}

// Nodes that do not stop cleanly are gone nevertheless. The error says so and shows the log.
func TestNodeGroupStopsBadly(t *testing.T) {
	for how, says := range map[string][]string{
		"fail": {"here-n1", "exit status 1", "a queue was not empty"},
		"hang": {"here-n1", "killed, since it did not stop in time"},
	} {
		t.Run(how, func(t *testing.T) {
			c, group, told := mustStartWithout(t, func(cfg *Config) {
				cfg.ExtraEnv = func(n *Node) []string {
					if n.Region == "there" {
						return nil
					}
					return []string{stopVariable + "=" + how}
				}
			})
			group.Count, group.Settings = 1, map[string]string{"punch-timeout": "1s", "shutdown-timeout": "2s"}
			mustSet := func() {
				t.Helper()
				if err := c.SetNodes(testContext(t), "here", group, told.say); err != nil {
					t.Fatal(err)
				}
			}
			mustSet()
			// A replaced node has a successor, although it stopped badly.
			group.Settings = map[string]string{"punch-timeout": "1s", "shutdown-timeout": "2s", "weight": "200"}
			mustContain(t, c.SetNodes(testContext(t), "here", group, told.say), says...)
			told.want(t, true, "here-n1 is ready", "here-n1 is gone", "here-n1 is ready")
			mustContain(t, c.RemoveNodes(testContext(t), "here", told.say), says...)
			if c.Nodes()[0].Running() {
				t.Error("it still runs")
			}
			if err := c.RemoveNodes(testContext(t), "here", told.say); err != nil {
				t.Errorf("once it is gone: %v", err)
			}
		})
	}
}

func TestNodeGroupIsChecked(t *testing.T) {
	c, good, told := mustStartWithout(t, nil)
	for says, change := range map[string]func(*NodeGroup) (region string){
		`region "mars" is none of here, there`:                  func(*NodeGroup) string { return "mars" },
		"3 nodes of here: the cluster has addresses for 1 to 2": func(g *NodeGroup) string { g.Count = 3; return "here" },
		"setting region of here": func(g *NodeGroup) string {
			g.Settings = map[string]string{"region": "there"}
			return "here"
		},
		"/no/such/binary": func(g *NodeGroup) string { g.Binary = "/no/such/binary"; return "here" },
		"exit status 1; its log": func(g *NodeGroup) string {
			g.Settings = map[string]string{"no-such": "setting"}
			return "here"
		},
	} {
		group := good
		region := change(&group)
		mustContain(t, c.SetNodes(testContext(t), region, group, told.say), says)
	}
	for _, n := range c.Region("here") {
		if n.Running() {
			t.Errorf("%s runs", n.Name)
		}
	}
	if err := c.RemoveNodes(testContext(t), "mars", told.say); err != nil {
		t.Errorf("a region without nodes: %v", err)
	}
	ended, cancel := context.WithCancel(testContext(t))
	cancel()
	_ = c.changes.Acquire(testContext(t), 1)
	defer c.changes.Release(1)
	if err := c.SetNodes(ended, "here", good, told.say); err == nil {
		t.Error("two changes run at the same time")
	}
}

// A node that never becomes ready does not stay, and the node that serves is replaced only after the missing ones run.
func TestNodeGroupNeverReady(t *testing.T) {
	c, group, told := mustStartWithout(t, func(cfg *Config) {
		cfg.ExtraEnv = func(n *Node) []string {
			if n.Name == "here-n2" {
				return []string{refuseVariable + "=the schema is too old"}
			}
			return nil
		}
	})
	group.Count = 1
	if err := c.SetNodes(testContext(t), "here", group, told.say); err != nil {
		t.Fatal(err)
	}
	first, second := c.Nodes()[0], c.Nodes()[1]
	pid := first.PID()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	failure := make(chan error)
	go func() {
		failure <- c.SetNodes(ctx, "here", NodeGroup{Count: 2, Binary: group.Binary, Settings: map[string]string{"weight": "50"}}, told.say)
	}()
	mustLog(t, second.Logs(), "refused", 2)
	cancel()
	mustContain(t, <-failure, "here-n2", "not ready in time", "the schema is too old")
	if second.Running() || first.PID() != pid || !first.Running() {
		t.Errorf("here-n2 runs: %t, here-n1 still runs as process %d: %t", second.Running(), pid, first.PID() == pid && first.Running())
	}
	told.want(t, true, "here-n1 is ready")
}

// mustLog returns once a file has some text so many times.
func mustLog(t *testing.T, path, text string, times int) {
	t.Helper()
	for ctx := testContext(t); ; {
		if log, err := os.ReadFile(path); err == nil && strings.Count(string(log), text) >= times {
			return
		}
		if !Pause(ctx, pollEvery) {
			t.Fatalf("%s does not have %q %d times", path, text, times)
		}
	}
}
