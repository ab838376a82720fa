package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// machine says where a part ran and what else ran there.
type machine struct {
	Processor string   `json:"processor"`
	Cores     int      `json:"cores"`
	MemoryGB  float64  `json:"memory_gb"`
	Kernel    string   `json:"kernel"`
	Go        string   `json:"go"`
	Load      string   `json:"load"`   // the load averages before the part
	Others    []string `json:"others"` // other processes that used CPU before the part
}

const (
	othersWatched = time.Second
	othersShare   = 0.02 // of a core; less does not change a ratio
)

// describeMachine looks at the machine for a second, while the benchmark itself does nothing.
func describeMachine(ctx context.Context) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.Cores = strings.Count(string(text), "processor\t:")
		m.Processor = field(string(text), "model name")
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.MemoryGB = float64(kilobytes(string(text), "MemTotal:")>>20) / 1024
	}
	m.Kernel = firstLine("/proc/sys/kernel/osrelease")
	if f := strings.Fields(firstLine("/proc/loadavg")); len(f) >= 3 {
		m.Load = strings.Join(f[:3], " ")
	}
	m.Others = otherProcesses(ctx)
	return m
}

func firstLine(name string) string {
	text, _ := os.ReadFile(name) // empty where the system has no such file
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func field(text, name string) string {
	_, rest, _ := strings.Cut(text, name)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(strings.TrimLeft(line, " \t:"))
}

// otherProcesses returns the names of the processes outside of this one and its descendants that use CPU.
func otherProcesses(ctx context.Context) (names []string) {
	before := allCPU()
	began := time.Now()
	if !cluster.Pause(ctx, othersWatched) {
		return nil
	}
	seconds := time.Since(began).Seconds()
	own := ownProcesses()
	shares := make(map[string]float64)
	for pid, used := range allCPU() {
		earlier, known := before[pid]
		if !known || own[pid] {
			continue
		}
		shares[firstLine(fmt.Sprintf("/proc/%d/comm", pid))] += (used - earlier) / seconds
	}
	for name, share := range shares {
		if share >= othersShare && name != "" {
			names = append(names, fmt.Sprintf("%s %.0f%%", name, 100*share))
		}
	}
	slices.Sort(names)
	return names
}

func allCPU() map[int]float64 {
	used := make(map[int]float64)
	names, _ := filepath.Glob("/proc/[0-9]*") // the pattern is valid
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil { // otherwise it has just ended
			used[pid] = s.own // a child that ends within the second would add its whole life
		}
	}
	return used
}

func ownProcesses() map[int]bool {
	own := map[int]bool{os.Getpid(): true}
	children, err := childrenOf()
	if err != nil {
		return own
	}
	for waiting := []int{os.Getpid()}; len(waiting) > 0; waiting = waiting[1:] {
		for _, pid := range children[waiting[0]] {
			own[pid] = true
			waiting = append(waiting, pid)
		}
	}
	return own
}

// commit returns the commit of the working tree, with a mark if files differ from it. It is unknown outside of Git.
func commit(ctx context.Context) string {
	hash, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	text := strings.TrimSpace(string(hash))
	// The report itself changes during a run.
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ".", ":!BENCHMARKS.md", ":!docs/benchmarks").Output()
	if err == nil && len(changed) > 0 {
		text += " with changes"
	}
	return text
}
