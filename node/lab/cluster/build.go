package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Build compiles the punchclock command into dir and returns its path. Flags such as -race go to go build. Linking takes
// seconds: a test process calls it once, from TestMain.
func Build(ctx context.Context, dir string, flags ...string) (string, error) {
	return build(ctx, dir, "punchclock", flags)
}

// BuildLab compiles the punchclock-lab command into dir and returns its path.
func BuildLab(ctx context.Context, dir string, flags ...string) (string, error) {
	return build(ctx, dir, "punchclock-lab", flags)
}

// build compiles a command of the module that the working folder belongs to.
func build(ctx context.Context, dir, name string, flags []string) (string, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("build %s: go env: %w", name, err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	if root == "." || root == filepath.Dir(os.DevNull) { // the output of go outside of a module
		return "", fmt.Errorf("build %s: %w", name, errors.New("the working folder is in no module"))
	}
	binary, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	// Without tables for debuggers (-w) a link takes half of the time. Stack traces do not need them.
	cmd := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-ldflags=-w", "-o", binary}, flags, []string{"./node/cmd/" + name})...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return binary, nil
}
