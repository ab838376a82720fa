package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestOnlyTheDrillsBinaryHasAWrongClock sets the variable of the drill of a wrong clock. A released binary refuses
// it. The drill's binary takes it.
func TestOnlyTheDrillsBinaryHasAWrongClock(t *testing.T) {
	clock := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(clock, []byte("10m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := nodeClock(); err != nil || time.Since(got()).Abs() > time.Minute {
		t.Errorf("a released binary: %v, or a wrong clock", err)
	}
	t.Setenv("PUNCHCLOCK_LAB_CLOCK_FILE", clock)
	if status := run(t.Context(), []string{"version"}); status != 2 {
		t.Errorf("a released binary ended with status %d, want 2", status)
	}
	binary := filepath.Join(t.TempDir(), "punchclock")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags=lab_clock", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "version").CombinedOutput(); err != nil {
		t.Errorf("the drill's binary: %v\n%s", err, out)
	}
}
