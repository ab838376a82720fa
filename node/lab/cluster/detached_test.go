package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// teller gathers what StartDetached and StopDetached say.
type teller struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (s *teller) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// take returns the first two words of what was said since, such as "here-n1 is".
func (s *teller) take() (said []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.lines {
		words := strings.Fields(line)
		said = append(said, strings.Join(words[:min(3, len(words))], " "))
	}
	s.lines = nil
	return said
}

// mustStartApart starts a cluster whose nodes are all left to StartDetached.
func mustStartApart(t *testing.T, change func(*Config)) (*Cluster, State, DetachedNodes, *teller) {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else every stand-in takes a second to end
	cfg := nodesOnly(t)
	cfg.Regions = []string{"here", "there"}
	cfg.WithoutNodes = []string{"here"}
	cfg.NodesPerRegion = 2
	if change != nil {
		change(&cfg)
	}
	c := mustStart(t, cfg)
	var told teller
	return c, c.State(), DetachedNodes{Region: "here", Count: 2, Binary: cfg.Binary, Say: told.say}, &told
}

func groupOf(t *testing.T, c *Cluster, name string) string {
	t.Helper()
	return strings.TrimSpace(mustRead(t, filepath.Join(c.Dir(), "detached", "here", name, "pid")))
}

func wantSaid(t *testing.T, told *teller, inOrder bool, want ...string) {
	t.Helper()
	said := told.take()
	if !inOrder {
		slices.Sort(said)
		slices.Sort(want)
	}
	if !slices.Equal(said, want) {
		t.Errorf("said %q, expected %q", said, want)
	}
}

func TestDetachedLife(t *testing.T) {
	c, state, want, told := mustStartApart(t, nil)
	if state.Nodes[0].PID != 0 || state.Nodes[2].PID == 0 {
		t.Fatalf("nodes %+v; expected that only those of there run", state.Nodes)
	}
	ctx := testContext(t)
	mustDetach := func() {
		t.Helper()
		if err := StartDetached(ctx, &state, want); err != nil {
			t.Fatal(err)
		}
	}
	mustDetach()
	wantSaid(t, told, false, "here-n1 is ready", "here-n2 is ready")
	first := groupOf(t, c, "here-n1")
	mustDetach()
	wantSaid(t, told, true, "here-n1 runs already", "here-n2 runs already")
	if again := groupOf(t, c, "here-n1"); again != first {
		t.Errorf("here-n1 was replaced, %s by %s, although nothing had changed", first, again)
	}

	want.With = map[string]string{"weight": "200"}
	mustDetach() // one after the other
	wantSaid(t, told, true, "here-n1 is gone", "here-n1 is ready", "here-n2 is gone", "here-n2 is ready")
	if log := mustRead(t, state.Nodes[0].Log); !strings.Contains(log, "serving here n1 1s 200\n") {
		t.Errorf("here-n1 did not take the setting; it logged %q", log)
	}

	crash(t, state.Nodes[0].OpsURL)
	mustEnd(t, &daemon{folder: filepath.Join(c.Dir(), "detached", "here", "here-n1")})
	if ended := mustRead(t, filepath.Join(c.Dir(), "detached", "here", "ended")); ended != "here-n1: exit status 3\n" {
		t.Errorf("ended by themselves: %q, expected here-n1 alone", ended)
	}
	mustDetach()
	wantSaid(t, told, false, "here-n1 had ended", "here-n1 is ready", "here-n2 runs already")

	want.Count = 1
	mustDetach()
	wantSaid(t, told, true, "here-n1 runs already", "here-n2 is gone")
	for range 2 { // the second time there is nothing to do
		if err := StopDetached(ctx, c.Dir(), "here", told.say); err != nil {
			t.Fatal(err)
		}
	}
	wantSaid(t, told, true, "here-n1 is gone")
	if _, err := os.Stat(filepath.Join(c.Dir(), "detached", "here", "ended")); err == nil {
		t.Error("who had ended is still told after all were stopped")
	}
	if err := state.Nodes[0].ready(ctx); err == nil {
		t.Error("a stopped node answers")
	}
}

func crash(t *testing.T, opsURL string) {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), http.MethodGet, opsURL+"/crash", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("the node answered its crash")
	}
}

// mustEnd waits until the node is gone.
func mustEnd(t *testing.T, d *daemon) {
	t.Helper()
	for ctx := testContext(t); ; time.Sleep(pollEvery) {
		if alive, err := d.alive(); err != nil || ctx.Err() != nil {
			t.Fatal(err, ctx.Err())
		} else if !alive {
			return
		}
	}
}

// A cluster that ends takes along what was started beside it.
func TestDetachedEndWithTheCluster(t *testing.T) {
	c, state, want, _ := mustStartApart(t, nil)
	if err := StartDetached(testContext(t), &state, want); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if left := processesIn(t, c.Dir()); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	if err := StopDetached(testContext(t), c.Dir(), "here", nil); err != nil {
		t.Errorf("stopping once all is gone: %v", err)
	}
	mustContain(t, StartDetached(testContext(t), &state, want), "the cluster is gone")
}

// So does what StartServer has started, of which the cluster knows nothing.
func TestServersEndWithTheCluster(t *testing.T) {
	c := mustStart(t, nodesOnly(t))
	tail, err := exec.LookPath("tail")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{
		Name: "cockroach-far", Binary: tail, Args: []string{"-f", c.GossipKeyFile()}, Log: filepath.Join(c.Dir(), "logs", "far.log"),
		folder: filepath.Join(c.Dir(), serversFolder, "far", "cockroach-far"),
	}
	if err := d.launch(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if alive, err := d.alive(); !alive || err != nil {
		t.Fatalf("it does not run: %v", err)
	}
	if err := c.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if left := processesIn(t, c.Dir()); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

// A node that is not ready because its region is evacuated is neither waited for
// nor replaced.
func TestDetachedInAnEvacuatedRegion(t *testing.T) {
	c, state, want, told := mustStartApart(t, nil)
	want.Count = 1
	state.Nodes[0].Env = []string{refuseVariable + `={"status":"not ready","reasons":["the region is evacuated"]}`}
	for range 2 {
		if err := StartDetached(testContext(t), &state, want); err != nil {
			t.Fatal(err)
		}
	}
	wantSaid(t, told, true, "here-n1 is ready", "here-n1 runs already")
	if err := StopDetached(testContext(t), c.Dir(), "here", told.say); err != nil {
		t.Fatal(err)
	}
}

// Nodes that do not stop as they should are gone nevertheless, and it is said.
func TestDetachedStopBadly(t *testing.T) {
	for how, says := range map[string][]string{
		"fail": {"here-n1", "did not stop cleanly: exit status 1", "a lane was not empty"},
		"hang": {"here-n1", "killed, since it did not stop within 2.4s"},
	} {
		t.Run(how, func(t *testing.T) {
			c, state, want, told := mustStartApart(t, func(cfg *Config) {
				cfg.ExtraEnv = func(n *Node) []string {
					if n.Region == "there" {
						return nil
					}
					return []string{stopVariable + "=" + how}
				}
			})
			want.Count, want.With = 1, map[string]string{"punch-timeout": "1s", "shutdown-timeout": "2s"}
			if err := StartDetached(testContext(t), &state, want); err != nil {
				t.Fatal(err)
			}
			// Who gives up waiting does not end it.
			given, cancel := context.WithCancel(testContext(t))
			cancel()
			if how == "hang" {
				mustContain(t, StopDetached(given, c.Dir(), "here", want.Say), "here-n1: goes on draining", "context canceled")
			}
			mustContain(t, StopDetached(testContext(t), c.Dir(), "here", want.Say), says...)
			if how == "fail" { // also when it is replaced: it has a successor then
				if err := StartDetached(testContext(t), &state, want); err != nil {
					t.Fatal(err)
				}
				want.With["weight"] = "200"
				mustContain(t, StartDetached(testContext(t), &state, want), says...)
				wantSaid(t, told, true, "here-n1 is ready", "here-n1 is gone", "here-n1 is ready", "here-n1 is gone", "here-n1 is ready")
				mustContain(t, StopDetached(testContext(t), c.Dir(), "here", want.Say), says...)
			}
			if err := StopDetached(testContext(t), c.Dir(), "here", want.Say); err != nil {
				t.Errorf("once it is gone: %v", err)
			}
		})
	}
}

// An id that the system has given to somebody else is nobody's to signal.
func TestDetachedLeavesStrangersAlone(t *testing.T) {
	c, state, want, told := mustStartApart(t, nil)
	want.Count = 1
	if err := StartDetached(testContext(t), &state, want); err != nil {
		t.Fatal(err)
	}
	d, err := readDaemon(filepath.Join(c.Dir(), "detached", "here", "here-n1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.kill(); err != nil {
		t.Fatal(err)
	}
	stranger := exec.CommandContext(testContext(t), "sleep", "60")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = stranger.Process.Kill(), stranger.Wait() }() // only there to be left alone
	if err := os.WriteFile(d.path("pid"), fmt.Appendf(nil, "%d\n", stranger.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	told.take()
	if err := StopDetached(testContext(t), c.Dir(), "here", told.say); err != nil {
		t.Fatal(err)
	}
	wantSaid(t, told, true, "here-n1 had ended")
	if !alive(stranger.Process.Pid) {
		t.Error("a process that is no node was ended")
	}
}

func TestDetachedFails(t *testing.T) {
	c, state, good, _ := mustStartApart(t, nil)
	for says, change := range map[string]func(*DetachedNodes){
		`region "mars" is none of here, there`:                  func(w *DetachedNodes) { w.Region = "mars" },
		"3 nodes of here: the cluster has addresses for 1 to 2": func(w *DetachedNodes) { w.Count = 3 },
		"setting region of here-n1 is the cluster's to give":    func(w *DetachedNodes) { w.With = map[string]string{"region": "there"} },
		"/no/such/binary":                    func(w *DetachedNodes) { w.Binary = "/no/such/binary" },
		"exit status 1; its log":             func(w *DetachedNodes) { w.With = map[string]string{"no-such": "setting"} },
		"somebody uses one of its addresses": func(w *DetachedNodes) { w.Region = "there" },
	} {
		want := good
		change(&want)
		mustContain(t, StartDetached(testContext(t), &state, want), says)
	}
	if left := processesIn(t, filepath.Join(c.Dir(), "detached")); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	stale := state
	stale.PID = deadPID(t)
	mustContain(t, StartDetached(testContext(t), &stale, good), "the cluster is gone: its process")
	bare := state
	bare.Nodes = slices.Clone(state.Nodes)
	bare.Nodes[0].Settings = nil
	mustContain(t, StartDetached(testContext(t), &bare, good), "no settings for here-n1")
	ctx, cancel := context.WithTimeout(testContext(t), 10*pollEvery)
	defer cancel()
	release, err := Hold(filepath.Join(c.Dir(), "detached", "here", ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, StartDetached(ctx, &state, good), "region here", "somebody holds it")
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

// What never becomes ready is not left running, and the node that serves is
// not touched before its successor's turn.
func TestDetachedNeverReady(t *testing.T) {
	_, state, want, told := mustStartApart(t, nil)
	want.Count = 1
	ctx := testContext(t)
	if err := StartDetached(ctx, &state, want); err != nil {
		t.Fatal(err)
	}
	other, cancel := context.WithCancel(ctx)
	defer cancel()
	state.Nodes[1].Env = []string{refuseVariable + "=the schema is too old"}
	want.Count = 2
	want.With = map[string]string{"weight": "50"} // here-n1 would be replaced
	failure := make(chan error)
	go func() { failure <- StartDetached(other, &state, want) }()
	for deadline := time.Now().Add(testDeadline); time.Now().Before(deadline); time.Sleep(pollEvery) {
		if log, err := os.ReadFile(state.Nodes[1].Log); err == nil && strings.Count(string(log), "refused") >= 2 {
			break
		}
	}
	cancel()
	mustContain(t, <-failure, "here-n2", "not ready in time", "the schema is too old")
	if _, err := net.Dial("tcp", address(state.Nodes[1].OpsURL)); err == nil {
		t.Error("what was not ready still runs")
	}
	if err := state.Nodes[0].ready(ctx); err != nil {
		t.Errorf("the node that served before: %v", err)
	}
	wantSaid(t, told, true, "here-n1 is ready")
}

// deadPID is of a process that was and is not.
func deadPID(t *testing.T) int {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), "true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}
