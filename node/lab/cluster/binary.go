package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// FindBinary returns the punchclock executable that nodes run: the named file, the file beside this executable, or the
// first on the PATH.
func FindBinary(named string) (string, error) {
	if named != "" {
		return filepath.Abs(named)
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), "punchclock")
	path, err := exec.LookPath(beside)
	if errors.Is(err, os.ErrNotExist) {
		path, err = exec.LookPath("punchclock")
	}
	if err != nil {
		return "", fmt.Errorf("--binary: no punchclock executable at %s and none on the PATH; `make build` builds it: %w", beside, err)
	}
	return path, nil
}
