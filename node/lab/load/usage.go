package load

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// Processes are the processes of a cluster on this machine, by their ids. Their CPU includes their children: PostgreSQL
// has a process for each connection.
type Processes struct {
	Nodes    []int
	Database []int
}

// ProcessesOf returns the processes in a state file.
func ProcessesOf(s *cluster.State) (p Processes) {
	for i := range s.Nodes {
		if s.Nodes[i].PID > 0 {
			p.Nodes = append(p.Nodes, s.Nodes[i].PID)
		}
	}
	for i := range s.Database.Hosts {
		if s.Database.Hosts[i].PID > 0 {
			p.Database = append(p.Database, s.Database.Hosts[i].PID)
		}
	}
	return p
}

// Shares are the processors in use, 1 for a whole one.
type Shares struct {
	Generator float64 `json:"generator"`
	Nodes     float64 `json:"nodes"`
	Database  float64 `json:"database"`
}

// CPU is what a run used. The figures of nodes and database are 0 if their processes are not on this machine.
type CPU struct {
	Seconds         float64 `json:"generator_s"`
	NodesSeconds    float64 `json:"nodes_s"`
	DatabaseSeconds float64 `json:"database_s"`
	Shares          Shares  `json:"shares"`
	// The time per acknowledged punch.
	GeneratorPerPunch time.Duration `json:"generator_per_punch_ns"`
	NodesPerPunch     time.Duration `json:"nodes_per_punch_ns"`
	DatabasePerPunch  time.Duration `json:"database_per_punch_ns"`
}

// String leaves out nodes and database if they were not measured.
func (c *CPU) String() string {
	text := describeCPU("generator", c.Seconds, c.Shares.Generator, c.GeneratorPerPunch)
	if c.NodesSeconds > 0 {
		text += ", " + describeCPU("nodes", c.NodesSeconds, c.Shares.Nodes, c.NodesPerPunch)
	}
	if c.DatabaseSeconds > 0 {
		text += ", " + describeCPU("database", c.DatabaseSeconds, c.Shares.Database, c.DatabasePerPunch)
	}
	return text
}

func describeCPU(of string, seconds, share float64, perPunch time.Duration) string {
	return fmt.Sprintf("%s %.1fs (%.0f%%, %s per acknowledged punch)", of, seconds, 100*share, brief(perPunch))
}

// usage is the CPU time used until a moment of the run.
type usage struct {
	at                         time.Duration
	generator, nodes, database time.Duration
}

// usageEvery gives each second of the series its own figures. A sample reads some hundred small files.
const usageEvery = time.Second

// sampleUsage takes samples until ctx ends, and a last one.
func sampleUsage(ctx context.Context, begin time.Time, p Processes) (list []usage) {
	ticker := time.NewTicker(usageEvery)
	defer ticker.Stop()
	last := usage{}
	sample := func() {
		u := usage{at: time.Since(begin), generator: ownCPU()}
		stats := readStats(len(p.Nodes)+len(p.Database) > 0)
		// A process that ended keeps its CPU time, so no figure falls.
		u.nodes, u.database = max(last.nodes, stats.trees(p.Nodes)), max(last.database, stats.trees(p.Database))
		last = u
		list = append(list, u)
	}
	for {
		sample()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			sample()
			return list
		}
	}
}

func ownCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0 // cannot fail for the own process
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// processStats are the CPU times of all processes of this machine, by id.
type processStats map[int]processStat

type processStat struct {
	parent int
	cpu    time.Duration // with the children that it has waited for
}

// readStats reads /proc. Without /proc there are no figures.
func readStats(wanted bool) processStats {
	stats := make(processStats)
	if !wanted {
		return stats
	}
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if stat, ok := parseStat(text); ok && err == nil {
			stats[pid] = stat
		}
	}
	return stats
}

// tick is the unit of /proc/PID/stat. It is 100 per second on every Linux system.
const tick = 10 * time.Millisecond

// parseStat reads the parent, utime, stime, cutime and cstime (proc(5)). The name of the program before them may contain
// anything, also blanks and parentheses.
func parseStat(text []byte) (stat processStat, ok bool) {
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	if end < 0 || len(fields) < 15 {
		return processStat{}, false
	}
	numbers := make([]int64, 0, 5)
	for _, i := range []int{1, 11, 12, 13, 14} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return processStat{}, false
		}
		numbers = append(numbers, n)
	}
	ticks := numbers[1] + numbers[2] + numbers[3] + numbers[4]
	return processStat{parent: int(numbers[0]), cpu: time.Duration(ticks) * tick}, true
}

// trees returns the CPU time of processes and their descendants.
func (s processStats) trees(roots []int) (sum time.Duration) {
	for pid := range s.descend(roots) {
		sum += s[pid].cpu
	}
	return sum
}

// descend yields processes that run and their descendants.
func (s processStats) descend(roots []int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for pid := range s {
			if s.below(pid, roots) && !yield(pid) {
				return
			}
		}
	}
}

func (s processStats) below(pid int, roots []int) bool {
	for range 8 { // a bound, because /proc is not read at one moment
		if slices.Contains(roots, pid) {
			return true
		}
		stat, found := s[pid]
		if !found {
			return false
		}
		pid = stat.parent
	}
	return false
}

// cpuOf returns what all samples together used.
func cpuOf(used []usage, acknowledged int) (c CPU) {
	if len(used) < 2 {
		return c
	}
	first, last := used[0], used[len(used)-1]
	generator, nodes, database := last.generator-first.generator, last.nodes-first.nodes, last.database-first.database
	c.Seconds, c.NodesSeconds, c.DatabaseSeconds = generator.Seconds(), nodes.Seconds(), database.Seconds()
	c.Shares = sharesOf(first, last)
	if n := time.Duration(acknowledged); n > 0 {
		c.GeneratorPerPunch, c.NodesPerPunch, c.DatabasePerPunch = generator/n, nodes/n, database/n
	}
	return c
}

func sharesOf(from, to usage) Shares {
	t := (to.at - from.at).Seconds()
	if t <= 0 {
		return Shares{}
	}
	share := func(used time.Duration) float64 { return math.Round(1000*used.Seconds()/t) / 1000 }
	return Shares{share(to.generator - from.generator), share(to.nodes - from.nodes), share(to.database - from.database)}
}

// sharesBetween uses the samples that are nearest to the two moments.
func sharesBetween(used []usage, from, to time.Duration) Shares {
	nearest := func(t time.Duration) (best usage) {
		for i, u := range used {
			if i == 0 || (u.at-t).Abs() < (best.at-t).Abs() {
				best = u
			}
		}
		return best
	}
	return sharesOf(nearest(from), nearest(to))
}

// schedulerWaits returns how often goroutines waited how long for a processor since the start of the process.
func schedulerWaits() *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64Histogram()
}

// waitedP99 returns the 99th percentile of the waits between two histograms, as the upper end of its bucket.
func waitedP99(before, after *metrics.Float64Histogram) time.Duration {
	total := uint64(0)
	for i := range after.Counts {
		total += after.Counts[i] - before.Counts[i]
	}
	sum := uint64(0)
	for i := range after.Counts {
		sum += after.Counts[i] - before.Counts[i]
		if bound := after.Buckets[i+1]; sum*100 >= total*99 && !math.IsInf(bound, 0) {
			return time.Duration(bound * float64(time.Second))
		}
	}
	return 0
}
