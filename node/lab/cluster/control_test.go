package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// oneNode is the smallest cluster of stand-ins.
func oneNode(tb testing.TB) Config {
	tb.Helper()
	cfg := nodesOnly(tb)
	cfg.Regions, cfg.NodesPerRegion = []string{"here"}, 1
	return cfg
}

func mustServe(t *testing.T, c *Cluster, file string) *Control {
	t.Helper()
	control, err := (&Environment{Cluster: c, Companies: []Company{{ID: "acme"}}}).Serve(file)
	if err != nil {
		t.Fatal(err)
	}
	return control
}

func mustFindController(t *testing.T, file, dir string) *Controller {
	t.Helper()
	c, err := FindController(file, dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestControl changes a cluster as another process does, through the socket.
func TestControl(t *testing.T) {
	c, group, told := mustStartWithout(t, nil)
	file := filepath.Join(t.TempDir(), "run", "cluster.json")
	control := mustServe(t, c, file)
	closed := false
	defer func() {
		if !closed {
			_ = control.Close()
		}
	}()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with tokens: mode %v, %v", info.Mode(), err)
	}
	client := mustFindController(t, file, c.Dir())
	if err := client.SetNodes(testContext(t), "here", group, told.say); err != nil {
		t.Fatal(err)
	}
	told.want(t, false, "here-n1 is ready", "here-n2 is ready")
	state, err := ReadState(file)
	if err != nil || state.Nodes[0].PID != c.Nodes()[0].PID() || len(state.Companies) != 1 {
		t.Fatalf("the file has %+v, %v; expected process %d", state, err, c.Nodes()[0].PID())
	}

	mustCrash(t, c.Nodes()[0]) // the file shows it without any change that is asked for
	for ctx := testContext(t); state.Nodes[0].Crashes == 0; {
		if !Pause(ctx, pollEvery) {
			t.Fatal("the crash is not in the file")
		}
		if state, err = ReadState(file); err != nil {
			t.Fatal(err)
		}
	}
	if state.Nodes[0].PID != 0 || state.Nodes[0].Crashes != 1 || state.Nodes[1].Crashes != 0 {
		t.Errorf("the file has %+v", state.Nodes[:2])
	}

	mustContain(t, client.SetNodes(testContext(t), "mars", group, told.say), `region "mars" is none of here, there`)
	mustContain(t, client.SetNodes(testContext(t), "../here", group, told.say), "does not match")
	mustContain(t, client.AddServer(testContext(t), "far", told.say), "only CockroachDB has a server in each region")
	if err := client.RemoveServer(testContext(t), "here", told.say); err != nil {
		t.Error(err)
	}
	told.want(t, true, "here: the server")
	if err := client.RemoveNodes(testContext(t), "here", told.say); err != nil {
		t.Error(err)
	}
	told.want(t, false, "here-n1 had ended", "here-n2 is gone")

	if _, err := FindController(file, "/another/cluster"); !errors.Is(err, ErrGone) {
		t.Errorf("another cluster in the file: %v, expected %v", err, ErrGone)
	}
	closed = true
	if err := control.Close(); err != nil {
		t.Error(err)
	}
	if err := client.RemoveNodes(testContext(t), "here", told.say); !errors.Is(err, ErrGone) {
		t.Errorf("after the end: %v, expected %v", err, ErrGone)
	}
	if _, err := FindController(file, ""); !errors.Is(err, ErrGone) {
		t.Errorf("without a file: %v, expected %v", err, ErrGone)
	}
	mustBeEmpty(t, filepath.Dir(file))
}

// The client of a change may go away: the change continues. The end of the cluster ends it.
func TestControlGoesOnWithoutItsClient(t *testing.T) {
	c, group, told := mustStartWithout(t, func(cfg *Config) {
		cfg.ExtraEnv = func(n *Node) []string {
			if n.Region == "here" {
				return []string{refuseVariable + "=the schema is too old"}
			}
			return nil
		}
	})
	file := filepath.Join(t.TempDir(), "cluster.json")
	control := mustServe(t, c, file)
	client := mustFindController(t, file, "")
	group.Count = 1
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	failure := make(chan error)
	go func() { failure <- client.SetNodes(ctx, "here", group, told.say) }()
	node := c.Nodes()[0]
	mustLog(t, node.Logs(), "refused", 1)
	cancel()
	if err := <-failure; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that gave up: %v", err)
	}
	mustLog(t, node.Logs(), "refused", 1+strings.Count(mustRead(t, node.Logs()), "refused")) // it is still waited for
	if !node.Running() {
		t.Error("the node ended with its client")
	}
	if err := control.Close(); err != nil {
		t.Error(err)
	}
	if node.Running() {
		t.Error("a node that never became ready outlives the change")
	}
}

// The kernel limits the path of a socket to about 100 bytes. A state file may have a longer one.
func TestControlOfALongPath(t *testing.T) {
	c := mustStart(t, oneNode(t))
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	file := filepath.Join(dir, "cluster.json")
	control := mustServe(t, c, file)
	if err := mustFindController(t, file, "").RemoveNodes(testContext(t), "mars", nil); err != nil {
		t.Error(err)
	}
	if err := control.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(control.folder); control.folder == "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's folder %q: %v", control.folder, err)
	}
}

// A process that was killed leaves its file and its socket behind. Nothing of its cluster runs, and the next cluster may
// take the place.
func TestControlAfterACrash(t *testing.T) {
	c := mustStart(t, oneNode(t))
	file := filepath.Join(t.TempDir(), "cluster.json")
	state := c.State()
	state.Control = file + ".sock"
	if err := state.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := mustFindController(t, file, "").RemoveNodes(testContext(t), "here", nil); !errors.Is(err, ErrGone) {
		t.Errorf("without a socket: %v, expected %v", err, ErrGone)
	}
	if err := os.WriteFile(state.Control, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mustFindController(t, file, "").RemoveNodes(testContext(t), "here", nil); !errors.Is(err, ErrGone) {
		t.Errorf("with a socket on which no process listens: %v, expected %v", err, ErrGone)
	}
	if err := mustServe(t, c, file).Close(); err != nil {
		t.Error(err)
	}
}
