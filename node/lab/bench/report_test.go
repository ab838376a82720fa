package bench

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files again")

// fixed are results of two engines: a met target, missed ones, a failed part, a skipped queue and one engine less.
func fixed() []*results {
	m := machine{
		Processor: "Test 1000", Cores: 2, MemoryGB: 16, Kernel: "6.1", Go: "go1.26", Load: "0.10 0.20 0.30", Others: []string{"cc1 40%"},
	}
	when := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	overload := partRun{When: when, Took: 95 * time.Second, Commit: "abc1234", Machine: m, Ran: "10s for each overload"}
	overload.add("overload.capacity", 4000, "the highest rate")
	overload.add("overload.goodput.1.5", 0.99, "3960/s acknowledged of 6000 presses/s")
	overload.add("overload.goodput.5", 0.42, "1680/s acknowledged of 20000 presses/s; 9000/s refused")
	overload.add("overload.refusals", 0.04, "the slowest step")
	overload.Figures[3].Void = "the generator could not keep up"
	overload.Points = []point{
		{Series: "overload", Offered: 1.5, Acknowledged: 0.99, P99: 300 * time.Millisecond},
		{Series: openDoorSeries, Offered: 3, Acknowledged: 0.05, P99: 2900 * time.Millisecond},
		{Series: "overload", Offered: 5, Acknowledged: 0.42, P99: 1900 * time.Millisecond, RefusalP99: 40 * time.Millisecond},
	}
	cpu := partRun{When: when, Took: time.Minute, Commit: "abc1234", Machine: m}
	cpu.add("cpu.full", 2.5, "100 µs against 40 µs of the bare handler")
	cpu.Figures[0].Profile = "docs/benchmarks/profiles/postgres-node--full-load.txt"
	group := partRun{When: when, Took: time.Minute, Commit: "abc1234", Machine: m}
	group.add("group.insert", 6, "9000 punches/s against 1500")
	queues := partRun{When: when, Took: time.Minute, Commit: "abc1234", Machine: m}
	queues.add("queue.rate.nats", 1.2, "9000 punches/s against 7500")
	queues.add("queue.rows.nats", 0.8, "2s against 2.5s")
	queues.Figures = append(queues.Figures, figure{Key: "skipped.redis", Text: "Skipped: Redis list, because redis-server is not installed"})
	memory := partRun{When: when, Commit: "abc1234", Machine: m, Failure: "full queues: the database\nis gone"}
	return []*results{
		{Engine: "postgres", Version: "15.18", Parts: map[string]partRun{
			"overload": overload, "cpu": cpu, "group": group, "queues": queues, "memory": memory,
		}},
		{Engine: "cockroach", Version: "v26.1.0", Parts: map[string]partRun{"group": group}}, // 6 is less than 8
	}
}

// profileText begins as pprof writes it, with more functions than the report shows.
var profileText = "File: punchclock\nType: cpu\n      flat  flat%   sum%        cum   cum%\n" +
	strings.Repeat("     0.50s 10.00% 10.00%      0.60s 12.00%  internal/runtime/syscall.Syscall6\n", profileLines+1)

func mustWriteReport(t *testing.T, all []*results) (c Command, missed int) {
	t.Helper()
	dir := t.TempDir()
	c = Command{Out: filepath.Join(dir, "docs", "benchmarks"), Report: filepath.Join(dir, "BENCHMARKS.md")}
	if err := os.MkdirAll(filepath.Join(c.Out, "profiles"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Out, "profiles", "postgres-node--full-load.txt"), []byte(profileText), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if err := r.write(c.Out); err != nil {
			t.Fatal(err)
		}
	}
	missed, err := c.writeReport()
	if err != nil {
		t.Fatal(err)
	}
	return c, missed
}

func TestReportIsGolden(t *testing.T) {
	c, missed := mustWriteReport(t, fixed())
	if missed != 4 { // goodput at 5 times, CPU, time until rows, group commit on CockroachDB
		t.Errorf("%d figures miss their target, want 4", missed)
	}
	for golden, written := range map[string]string{
		"report.md": c.Report, "overload.svg": filepath.Join(c.Out, "overload-postgres.svg"), "queues.svg": filepath.Join(c.Out, "queues-postgres.svg"),
	} {
		got, err := os.ReadFile(written)
		if err != nil {
			t.Fatal(err)
		}
		golden = filepath.Join("testdata", golden)
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not %s. If the change is meant, run the test with -update. Got:\n%s", written, golden, got)
		}
	}
}

func TestPlotsAreWellFormed(t *testing.T) {
	for _, r := range fixed() {
		for name, plot := range map[string]string{"overload": plotOverload(r), "queues": plotQueues(r)} {
			d := xml.NewDecoder(strings.NewReader(plot))
			for {
				_, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s of %s: %v", name, r.Engine, err)
				}
			}
			if want := r.Engine == "postgres"; (plot != "") != want {
				t.Errorf("%s of %s has %d bytes, want a plot: %t", name, r.Engine, len(plot), want)
			}
		}
	}
}

func TestNotesStayInANewReport(t *testing.T) {
	c, _ := mustWriteReport(t, fixed())
	text, err := os.ReadFile(c.Report)
	if err != nil {
		t.Fatal(err)
	}
	const empty = "<!-- note postgres:cpu.full -->\n\n<!-- end of note -->"
	const mine = "The profile shows TLS.\n\nIt takes half of the time."
	if !strings.Contains(string(text), empty) {
		t.Fatalf("the report has no place for a note:\n%s", text)
	}
	with := strings.Replace(string(text), empty, "<!-- note postgres:cpu.full -->\n"+mine+"\n<!-- end of note -->", 1)
	if err := os.WriteFile(c.Report, []byte(with), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.writeReport(); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(c.Report)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != with {
		t.Errorf("the new report lost the note or changed:\n%s", again)
	}
}

func TestEveryTargetBelongsToAPart(t *testing.T) {
	known := make(map[string]bool)
	for _, p := range parts {
		known[p.name] = true
	}
	keys := make(map[string]bool)
	for _, target := range targets {
		if !known[target.part] {
			t.Errorf("target %s: there is no part %q", target.key, target.part)
		}
		if keys[target.key] {
			t.Errorf("target %s stands twice in the table", target.key)
		}
		keys[target.key] = true
	}
}

func TestMet(t *testing.T) {
	least := target{direction: atLeast, bound: 4, cockroach: 8, format: asRatio}
	most := target{direction: atMost, bound: 1, format: asRatio}
	for _, c := range []struct {
		target target
		engine string
		value  float64
		want   bool
	}{
		{least, "postgres", 4, true}, {least, "postgres", 3.99, false}, {least, "cockroach", 7.9, false}, {least, "cockroach", 8, true},
		{most, "postgres", 1, true}, {most, "postgres", 1.01, false}, {target{}, "postgres", 1e9, true},
	} {
		if got := c.target.met(c.engine, c.value); got != c.want {
			t.Errorf("target %+v on %s with %g: met %t, want %t", c.target, c.engine, c.value, got, c.want)
		}
	}
}

func TestUnknownPartIsAnError(t *testing.T) {
	c := Command{Parts: []string{"overflow"}}
	if _, err := c.chosen(); err == nil || !strings.Contains(err.Error(), "overflow") {
		t.Errorf("error %v, want one that names the part", err)
	}
}
