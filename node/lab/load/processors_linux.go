package load

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Processors are the processors that this process may use.
type Processors struct{ all []int }

// OwnProcessors returns the processors of the calling thread, which are those of the process unless Split was called.
func OwnProcessors() (p Processors, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return p, fmt.Errorf("the processors of this process: %w", err)
	}
	for i := 0; len(p.all) < set.Count(); i++ {
		if set.IsSet(i) {
			p.all = append(p.all, i)
		}
	}
	return p, nil
}

// Split keeps this process on one half of the processors, and nodes and database on the other half. Otherwise a generator
// of more punches than nodes can carry takes the processors from these nodes. A second call includes processes that have
// started since. One processor cannot be split, and Split then reports false.
func (p Processors) Split(others Processes) (bool, error) {
	if len(p.all) < 2 {
		return false, nil
	}
	rest := len(p.all) - len(p.all)/2
	return true, errors.Join(pin(os.Getpid(), p.all[rest:]), pinAll(others, p.all[:rest]))
}

// Join ends what Split began.
func (p Processors) Join(others Processes) error {
	return errors.Join(pin(os.Getpid(), p.all), pinAll(others, p.all))
}

func pinAll(p Processes, to []int) (err error) {
	stats := readStats(true)
	for _, roots := range [][]int{p.Nodes, p.Database} {
		for pid := range stats.descend(roots) {
			err = errors.Join(err, pin(pid, to))
		}
	}
	return err
}

// pin keeps all threads of a process on some processors. A thread that starts later inherits them.
func pin(pid int, to []int) error {
	var set unix.CPUSet
	for _, i := range to {
		set.Set(i)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has ended since
	}
	if err != nil {
		return err
	}
	for _, task := range tasks {
		thread, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(thread, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("the processors of process %d: %w", pid, err)
		}
	}
	return nil
}
