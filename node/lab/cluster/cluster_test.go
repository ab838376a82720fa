package cluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// testDeadline is for everything that a test waits for; it is met in seconds,
// and reached only when something hangs.
const testDeadline = 2 * time.Minute

// TestMain lets this executable play three parts: the tests, the punchclock
// that they start (see standin_test.go), and a parent that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "node" || os.Args[1] == "migrate") {
		os.Exit(standIn(os.Args[1:]))
	}
	if os.Getenv(parentVariable) != "" {
		os.Exit(runParent())
	}
	goleak.VerifyTestMain(m)
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	tb.Cleanup(cancel)
	return ctx
}

// testDir is a folder that an unprivileged account may pass through, which
// testing.TB's own is not.
func testDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "punchclock-test-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func testLog(tb testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(tb.Output(), nil)) }

// alive says whether a process runs; one that nobody has reaped does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return err != nil || !bytes.HasPrefix(state, []byte("Z"))
}

// mustVanish fails unless all processes are soon gone.
func mustVanish(tb testing.TB, pids ...int) {
	tb.Helper()
	for _, pid := range pids {
		for deadline := time.Now().Add(testDeadline); alive(pid); time.Sleep(pollEvery) {
			if time.Now().After(deadline) {
				tb.Fatalf("process %d still runs", pid)
			}
		}
	}
}

// processesIn returns the processes whose working folder or command line is in
// dir, which the workers of a database are as well as itself.
func processesIn(tb testing.TB, dir string) []int {
	tb.Helper()
	if runtime.GOOS != "linux" {
		return nil // no /proc
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		tb.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !alive(pid) {
			continue
		}
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd")) // gone by now is fine
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if strings.HasPrefix(cwd, dir) || bytes.Contains(line, []byte(dir)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func mustBeEmpty(tb testing.TB, dir string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	if len(entries) > 0 {
		tb.Fatalf("left behind in %s: %v", dir, entries)
	}
}

func mustContain(tb testing.TB, err error, parts ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error; expected one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			tb.Fatalf("error without %q:\n%v", part, err)
		}
	}
}
