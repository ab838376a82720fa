package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// mainPackage is the module's only executable.
const mainPackage = "./node/cmd/punchclock"

// Build compiles punchclock from the module that the working folder is in, as a
// test's is, into dir and returns its path. Flags such as -race go to go build.
// A test process calls it once, from TestMain: linking takes seconds.
func Build(ctx context.Context, dir string, flags ...string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("build: no module here: %w", err)
	}
	binary, err := filepath.Abs(filepath.Join(dir, "punchclock"))
	if err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	build := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", binary}, flags...), mainPackage)...)
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}
