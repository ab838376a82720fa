package demo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// demoVariable makes this executable run the demo until it is interrupted. Its value is the binary for the nodes. All
// processes of the demo inherit it, so the test finds them by it.
const demoVariable = "DEMO_TEST_BINARY"

func runDemo(binary string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	engines := cluster.Engines()
	quickest := engines[len(engines)-1].Name // PostgreSQL if both are installed
	c := &Demo{Setup: smallSetup(quickest), Load: smallLoad(), Sampled: 1}
	c.Binary, c.Duration = binary, time.Minute // without an interrupt the test fails after it, and does not hang
	if err := c.Run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestAnInterruptedDemoLeavesNothing interrupts a demo during its start and during its load.
func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	mustEngines(t)
	for _, moment := range []string{"starting the database", "load: "} {
		t.Run(moment, func(t *testing.T) {
			temp, err := os.MkdirTemp("", "interrupted-")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(temp) }()     // the check below reports a failure
			if err := os.Chmod(temp, 0o755); err != nil { // the database runs under another account
				t.Fatal(err)
			}
			mark := demoVariable + "=" + linkTo(t, binary)
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), mark, "TMPDIR="+temp)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			interrupted := false
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				said.WriteString(lines.Text() + "\n")
				if !interrupted && strings.Contains(lines.Text(), moment) {
					interrupted = true
					if err := cmd.Process.Signal(os.Interrupt); err != nil {
						t.Error(err)
					}
				}
			}
			if err := cmd.Wait(); err == nil || !interrupted {
				t.Errorf("%v, interrupted: %t, having said\n%s", err, interrupted, &said)
			}
			if left := processesWith(mark); len(left) > 0 {
				t.Errorf("left running: %q, having said\n%s", left, &said)
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left in the temporary folder: %v %v, having said\n%s", left, err, &said)
			}
		})
	}
}

// linkTo gives a file another name, so that each demo has a value of its own.
func linkTo(t *testing.T, file string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), "punchclock")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// processesWith returns the command lines of the processes with a setting in their environment.
func processesWith(setting string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // only Linux has /proc
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(environ, []byte(setting)) {
			continue // it is gone, or it belongs to another test
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline")) // may be gone by now
		found = append(found, string(bytes.ReplaceAll(command, []byte{0}, []byte(" "))))
	}
	return found
}
