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

// testDeadline ends every wait of a test. Waits take seconds, and only one that hangs reaches it.
const testDeadline = 2 * time.Minute

// TestMain lets this executable be three programs: the tests, the punchclock that they start (see standin_test.go), and
// a parent that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "node" || os.Args[1] == "migrate") {
		os.Exit(standIn(os.Args[1:]))
	}
	if os.Getenv(parentVariable) != "" {
		os.Exit(runParent())
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each stand-in takes a second to end
	goleak.VerifyTestMain(m)
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testDeadline)
	tb.Cleanup(cancel)
	return ctx
}

// testDir is a folder that an unprivileged account may enter. It may not enter the folder of testing.TB.
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

// alive reports whether a process runs. A zombie does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return err != nil || !bytes.HasPrefix(state, []byte("Z"))
}

// mustVanish waits until all processes are gone.
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

// processesIn returns the processes with dir in their working folder or command line. That includes the workers of a
// database.
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
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd")) // the process may be gone
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
