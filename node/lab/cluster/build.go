package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("build: go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	if root == "." || root == filepath.Dir(os.DevNull) { // what go says outside of any
		return "", errors.New("build: the working folder is in no module")
	}
	binary, err := filepath.Abs(filepath.Join(dir, "punchclock"))
	if err != nil {
		return "", fmt.Errorf("build: %w", err)
	}
	build := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", binary}, flags...), mainPackage)...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}
