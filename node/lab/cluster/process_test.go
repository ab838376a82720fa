package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// parentVariable names an engine. It makes this executable the parent of a cluster on that engine, in parentDir.
const (
	parentVariable = "PUNCHCLOCK_TEST_PARENT"
	parentDir      = "PUNCHCLOCK_TEST_PARENT_DIR"
)

// runParent starts a cluster, prints its State and waits until the test kills it.
func runParent() int {
	self, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	c, err := Start(context.Background(), Config{
		Binary: self, Dir: os.Getenv(parentDir), Engine: os.Getenv(parentVariable), Regions: []string{"here"}, NodesPerRegion: 1, JWKS: "keys.json",
	})
	if err != nil {
		return failed(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(c.State()); err != nil {
		return failed(err)
	}
	time.Sleep(testDeadline) // the test kills long before
	return failed(errors.Join(errors.New("the test did not kill the parent"), c.Stop(context.Background())))
}

// TestChildrenDieWithParent kills the process that runs a cluster, so it cannot stop its children itself.
func TestChildrenDieWithParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux signals a child when its parent dies")
	}
	eachEngine(t, func(t *testing.T, engine string) {
		dir := testDir(t)
		parent := exec.CommandContext(testContext(t), os.Args[0])
		parent.Env = append(os.Environ(), parentVariable+"="+engine, parentDir+"="+dir)
		parent.Stderr = t.Output()
		out, err := parent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		var s State
		errDecode := json.NewDecoder(out).Decode(&s)
		children := processesIn(t, dir)
		if err := parent.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = parent.Wait() // was killed
		if errDecode != nil {
			t.Fatalf("the parent did not start its cluster: %v", errDecode)
		}
		pids := childrenOf(s)
		for _, pid := range pids {
			if !slices.Contains(children, pid) {
				t.Errorf("%d of %+v was not running before", pid, s)
			}
		}
		t.Logf("%d processes, %d of them the parent's own", len(children), len(pids))
		mustVanish(t, append(children, pids...)...)
	})
}

func childrenOf(s State) (pids []int) {
	for _, h := range s.Database.Hosts {
		pids = append(pids, h.PID)
	}
	for _, n := range s.Nodes {
		pids = append(pids, n.PID)
	}
	return pids
}

func newTestSpawner(tb testing.TB) *spawner {
	tb.Helper()
	s := newSpawner(slog.New(slog.DiscardHandler), nil)
	tb.Cleanup(s.close)
	return s
}

func sleeper(tb testing.TB) command {
	return command{name: "sleep", path: "/bin/sleep", args: []string{"600"}, log: filepath.Join(tb.TempDir(), "log"), lastSignal: syscall.SIGKILL}
}

// TestChildOutlivesThreads ends many threads. The kernel signals a child when the thread that forked it ends. If the
// spawner did not fork on its own thread, a child would end here.
func TestChildOutlivesThreads(t *testing.T) {
	s := newTestSpawner(t)
	var children []*process
	for range 8 {
		var wg sync.WaitGroup
		wg.Go(func() { // from a thread that ends at once
			runtime.LockOSThread()
			p, err := s.start(sleeper(t))
			if err != nil {
				t.Error(err)
				return
			}
			children = append(children, p)
		})
		wg.Wait()
	}
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(runtime.LockOSThread)
	}
	wg.Wait()
	for _, p := range children {
		select {
		case <-p.gone.Done():
			t.Errorf("child %d died with a thread", p.pid())
		case <-time.After(20 * time.Millisecond): // enough for the kernel, which signals as the thread ends
		}
	}
	s.close()
	for _, p := range children {
		<-p.gone.Done() // the spawner's thread has ended, so they do
	}
}

func TestSpawner(t *testing.T) {
	ctx, s := testContext(t), newTestSpawner(t)
	c := sleeper(t)
	c.path, c.args = "/bin/sh", []string{"-c", "echo out; echo err >&2; exit 7"}
	for range 2 { // the log of an earlier run must not be in the error
		err := s.run(ctx, c)
		mustContain(t, err, "sleep", "exit status 7", "out", "err", c.log)
		if n := strings.Count(err.Error(), "out\n"); n != 1 {
			t.Errorf("%d runs in the error:\n%v", n, err)
		}
	}
	c.args = []string{"-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1"}
	err := s.run(ctx, c)
	mustContain(t, err, "line 2999")
	if len(err.Error()) > 2*tailBytes || strings.Contains(err.Error(), "line 100\n") {
		t.Errorf("the tail is too long: %d bytes", len(err.Error()))
	}

	// When ctx ends, the command's children end as well.
	dir := t.TempDir()
	c.dir, c.args = dir, []string{"-c", "sleep 600 & echo started; wait"}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := s.run(short, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run past its deadline: %v", err)
	}
	for deadline := time.Now().Add(testDeadline); len(processesIn(t, dir)) > 0; time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			t.Fatalf("still running: %v", processesIn(t, dir))
		}
	}

	s.close()
	if _, err := s.start(c); !errors.Is(err, errStopped) {
		t.Errorf("start after close: %v", err)
	}
}

// TestEndKills starts a process that ignores SIGTERM. It is killed when ctx ends.
func TestEndKills(t *testing.T) {
	s := newTestSpawner(t)
	c := sleeper(t)
	ready := filepath.Join(t.TempDir(), "ready")
	c.path, c.args = "/bin/sh", []string{"-c", fmt.Sprintf("trap '' TERM; : >%s; while :; do sleep 600; done", ready)}
	p, err := s.start(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := poll(testContext(t), p, func(context.Context) error { _, err := os.Stat(ready); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	mustContain(t, p.end(ctx, syscall.SIGTERM), "killed, since it did not stop in time")
	if !p.exited() {
		t.Error("it is still there")
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL) // its child
}
