package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// waitForFile returns a file's text when done accepts it.
func waitForFile(t *testing.T, path string, done func(text string) bool) string {
	t.Helper()
	for ctx := testContext(t); ; {
		text, err := os.ReadFile(path)
		if err == nil && done(string(text)) {
			return string(text)
		}
		if !cluster.Pause(ctx, 10*time.Millisecond) {
			t.Fatalf("%s never got so far: %q, %v", path, text, err)
		}
	}
}

// gone reports whether a process has ended. A zombie counts as gone.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestRunCommandInterruptsTheWholeGroup cancels an operator's command. The command may clean up, and none of its
// children may go on afterwards.
func TestRunCommandInterruptsTheWholeGroup(t *testing.T) {
	for _, c := range []struct {
		name, script string
		grace        time.Duration
		tidied       bool
	}{
		// A shell's background processes ignore interrupts.
		{"it ends in its own time", `trap 'echo tidied >>"$FILE"; exit 3' INT; sleep 300 & echo $! >"$FILE"; wait`, time.Minute, true},
		{"its foreground child hears it too", `(echo $(exec sh -c 'echo $PPID') >"$FILE"; exec sleep 300)`, time.Minute, false},
		{"it does not want to end", `trap '' INT; sleep 300 & echo $! >"$FILE"; wait`, 200 * time.Millisecond, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "file")
			reason := errors.New("enough")
			ctx, cancel := context.WithCancelCause(testContext(t))
			defer cancel(nil)
			cmd := exec.CommandContext(ctx, "sh", "-c", c.script)
			cmd.Env = append(os.Environ(), "FILE="+file)
			ended := make(chan error, 1)
			go func() { ended <- runCommand(ctx, cmd, c.grace) }()
			child, err := strconv.Atoi(strings.TrimSpace(waitForFile(t, file, func(text string) bool { return strings.HasSuffix(text, "\n") })))
			if err != nil {
				t.Fatal(err)
			}
			if gone(child) {
				t.Fatal("the child is gone before the interrupt")
			}
			cancel(reason)
			if err := <-ended; !errors.Is(err, reason) {
				t.Errorf("it ended with %v, want %v", err, reason)
			}
			for ctx := testContext(t); !gone(child); {
				if !cluster.Pause(ctx, 10*time.Millisecond) {
					t.Fatalf("its child %d goes on", child)
				}
			}
			text, err := os.ReadFile(file)
			if tidied := strings.Contains(string(text), "tidied"); err != nil || tidied != c.tidied {
				t.Errorf("it tidied up: %t, want %t (%v)", tidied, c.tidied, err)
			}
		})
	}
}
