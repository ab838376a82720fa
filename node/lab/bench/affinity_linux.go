package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// pinSelf keeps this process, and each child that it starts from now on, on one core.
func pinSelf(core int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := setCore(id, core); err != nil {
			return err
		}
	}
	return nil
}

func setCore(thread, core int) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(thread, &set); err != nil {
		return fmt.Errorf("pinning to core %d: %w", core, err)
	}
	return nil
}

// startOn starts a child on one core. A child has the core of the thread that starts it.
func startOn(core int, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("pinning: %w", err)
	}
	if err := setCore(0, core); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }() // the set was valid before
	return cmd.Start()
}

// raiseFileLimit lets this process and its children hold as many connections as they may, and returns how many. More than
// the hard limit needs a privilege.
func raiseFileLimit(files uint64) (uint64, error) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return 0, fmt.Errorf("the limit of open files: %w", err)
	}
	if more := (unix.Rlimit{Cur: max(files, now.Cur), Max: max(files, now.Max)}); unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
		return more.Cur, nil
	}
	now.Cur = now.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return 0, fmt.Errorf("the limit of open files: %w", err)
	}
	return now.Cur, nil
}
