package load

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// seriesOf makes a series with so many acknowledged presses in each second, all of that latency.
func seriesOf(took ...time.Duration) *series {
	s := new(series)
	for i, d := range took {
		second := s.at(time.Duration(i) * time.Second)
		second.sent = 2
		switch {
		case d == 0:
			second.refuse(503, time.Millisecond)
			second.gaveUp++
		default:
			second.acknowledged = append(second.acknowledged, micros(d), micros(d))
		}
	}
	return s
}

func TestRecovery(t *testing.T) {
	const fast, slow, none = 10 * time.Millisecond, time.Second, 0
	for name, c := range map[string]struct {
		took      []time.Duration // before 2 s, overload 2 s, after 2 s
		recovered bool
		after     time.Duration
	}{
		"at once":               {[]time.Duration{fast, fast, slow, slow, fast, fast}, true, 0},
		"after a second":        {[]time.Duration{fast, fast, slow, slow, slow, fast}, true, time.Second},
		"never":                 {[]time.Duration{fast, fast, slow, slow, fast, slow}, false, 2 * time.Second},
		"nothing acknowledged":  {[]time.Duration{fast, fast, slow, slow, fast, none}, false, 2 * time.Second},
		"nothing at first":      {[]time.Duration{fast, fast, slow, slow, none, fast}, true, time.Second},
		"cut short":             {[]time.Duration{fast, fast, slow}, false, 0},
		"presses after the end": {[]time.Duration{fast, fast, slow, slow, fast, fast, slow, slow}, true, 0},
	} {
		_, got := seriesOf(c.took...).overload(2*time.Second, 2*time.Second, nil)
		if got.Recovered != c.recovered || got.After != c.after {
			t.Errorf("%s: %+v, want %t after %s", name, got, c.recovered, c.after)
		}
	}
	phases, _ := seriesOf(fast, fast, none, slow, fast, fast).overload(2*time.Second, 2*time.Second, nil)
	if p := phases[1]; p.Name != "overload" || p.Sent != 2 || p.Acknowledged != 1 || p.Refused != 0.5 || p.GaveUp != 0.5 || p.P99 != slow {
		t.Errorf("the overload is %+v", p)
	}
}

func TestALateGeneratorIsVoid(t *testing.T) {
	for name, c := range map[string]struct {
		result Result
		void   bool
	}{
		"in time":            {Result{Client: Plain, Late: lateBound, Waited: lateBound}, false},
		"late":               {Result{Client: Plain, Late: lateBound + 1}, true},
		"waited":             {Result{Client: Plain, Waited: lateBound + 1}, true},
		"no descriptors":     {Result{Client: Plain, LocalErrors: 1}, true},
		"dropped":            {Result{Client: Plain, Dropped: 1}, true},
		"late, other use":    {Result{Client: Reference, Late: time.Minute}, false},
		"dropped, reference": {Result{Client: Reference, Dropped: 1}, true},
	} {
		if err := c.result.Void(); errors.Is(err, ErrVoid) != c.void || c.void != strings.Contains(c.result.String(), "VOID") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseStat(t *testing.T) {
	const line = "4711 (a b) c) R 12 4711 4711 0 -1 4194304 9 8 7 6 10 20 30 40 20 0 1 0 100 200 300 18446744073709551615"
	stat, ok := parseStat([]byte(line))
	if !ok || stat.parent != 12 || stat.cpu != time.Second {
		t.Errorf("%+v, %t", stat, ok)
	}
	for _, text := range []string{"", "1 (x", "1 (x) R 1 2", strings.Replace(line, " 10 ", " x ", 1)} {
		if stat, ok := parseStat([]byte(text)); ok {
			t.Errorf("%q passed as %+v", text, stat)
		}
	}
}

// TestCPUOfAProcess lets a child of a child use a processor, as a database does, and waits until the figures show it.
func TestCPUOfAProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc:", err)
	}
	parent := exec.Command("sh", "-c", "sh -c 'while :; do :; done' & read _; kill $!")
	input, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close() // ends both
		_ = parent.Wait() // its status says nothing
	})
	deadline := time.Now().Add(30 * time.Second)
	for readStats(true).trees([]int{parent.Process.Pid}) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("a busy process shows no CPU time")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if used := readStats(true).trees(nil); used != 0 || ownCPU() <= 0 {
		t.Errorf("no process used %s, this one %s", used, ownCPU())
	}
}

// TestProcessorsAreSplit splits the processors between this process and a child, and joins them again.
func TestProcessorsAreSplit(t *testing.T) {
	own, err := OwnProcessors()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = input.Close() // ends it
		_ = child.Wait()  // its status says nothing
	})
	others := Processes{Nodes: []int{child.Process.Pid}}
	t.Cleanup(func() {
		if err := own.Join(others); err != nil {
			t.Error(err)
		}
	})
	before := allowed(t, child.Process.Pid)
	split, err := own.Split(others)
	if err != nil {
		t.Fatal(err)
	}
	if !split {
		t.Skip("this machine has one processor, or cannot choose")
	}
	if mine, its := allowed(t, os.Getpid()), allowed(t, child.Process.Pid); mine == its || mine == before || its == before {
		t.Errorf("this process has the processors %s, and the child %s, of %s", mine, its, before)
	}
	if err := own.Join(others); err != nil {
		t.Fatal(err)
	}
	if mine, its := allowed(t, os.Getpid()), allowed(t, child.Process.Pid); mine != before || its != before {
		t.Errorf("afterwards this process has %s and the child %s, want %s", mine, its, before)
	}
}

// allowed returns the processors of a process as the kernel writes them.
func allowed(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip("no /proc:", err)
	}
	_, rest, _ := strings.Cut(string(text), "Cpus_allowed_list:")
	list, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(list)
}

func TestShares(t *testing.T) {
	used := []usage{
		{0, time.Second, 5 * time.Second, 0},
		{time.Second, 1500 * time.Millisecond, 6 * time.Second, 0},
		{2 * time.Second, 2 * time.Second, 6 * time.Second, time.Second},
	}
	if got, want := sharesBetween(used, time.Second, 2*time.Second), (Shares{0.5, 0, 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	c := cpuOf(used, 1000)
	if c.Shares != (Shares{0.5, 0.5, 0.5}) || c.NodesPerPunch != time.Millisecond || math.Abs(c.Seconds-1) > 1e-9 {
		t.Errorf("%+v", c)
	}
}
