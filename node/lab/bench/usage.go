package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks of /proc are 10 ms on every platform that Go runs on.
const ticksPerSecond = 100

// cpuOf returns the seconds of CPU that processes and their children have used, user and system. PostgreSQL has a child
// for each connection.
func cpuOf(pids ...int) (seconds float64, err error) {
	children, err := childrenOf()
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		for _, one := range append([]int{pid}, children[pid]...) {
			stat, err := readStat(one)
			if os.IsNotExist(err) && one != pid {
				continue // its parent has its time once it is reaped
			}
			if err != nil {
				return 0, err
			}
			seconds += stat.cpu
		}
	}
	return seconds, nil
}

// stat is a part of /proc/PID/stat.
type stat struct {
	parent int
	own    float64
	cpu    float64 // with the children that ended
}

func readStat(pid int) (stat, error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(name)
	if err != nil {
		return stat{}, err
	}
	// proc(5): the name in parentheses may contain spaces. Behind it ppid is the second field, and utime, stime, cutime
	// and cstime are the fields 12 to 15.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("%s: %q", name, text)
	}
	var s stat
	if s.parent, err = strconv.Atoi(string(fields[1])); err != nil {
		return stat{}, fmt.Errorf("%s: %w", name, err)
	}
	for i, field := range fields[11:15] {
		n, err := strconv.ParseFloat(string(field), 64)
		if err != nil {
			return stat{}, fmt.Errorf("%s: %w", name, err)
		}
		s.cpu += n / ticksPerSecond
		if i < 2 {
			s.own += n / ticksPerSecond
		}
	}
	return s, nil
}

func childrenOf() (map[int][]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, name := range names {
		pid, err := strconv.Atoi(strings.Split(name, "/")[2])
		if err != nil {
			return nil, err
		}
		s, err := readStat(pid)
		if err != nil {
			continue // it has just ended
		}
		children[s.parent] = append(children[s.parent], pid)
	}
	return children, nil
}

// residentOf returns the memory of processes in bytes.
func residentOf(pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		sum += kilobytes(string(text), "VmRSS:")
	}
	return sum, nil
}

func kilobytes(status, name string) int64 {
	_, rest, _ := strings.Cut(status, name)
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(line, "kB")), 10, 64) // 0 for a process that has ended
	return n << 10
}
