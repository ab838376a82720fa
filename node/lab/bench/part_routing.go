package bench

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// measureRouting runs the Go benchmarks of routing and membership with 300 simulated nodes. It needs the source.
func measureRouting(ctx context.Context, _ *session, run *partRun) error {
	test := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=Of300Nodes$", "-benchtime=1s", "./region", "./region/gossip")
	test.WaitDelay = childGrace // the compiler's processes keep the output open
	out, err := test.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test: %w\n%s", err, out)
	}
	run.Ran = "`go test -bench=Of300Nodes` in `region` and `region/gossip`"
	for key, name := range map[string]string{"routing.decision": "RouteOf300Nodes", "routing.view": "ApplyViewOf300Nodes"} {
		seconds, err := benchmarkTime(out, name)
		if err != nil {
			return err
		}
		run.add(key, seconds, "%.3g µs", 1e6*seconds)
	}
	return nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)

func benchmarkTime(out []byte, name string) (seconds float64, err error) {
	for _, m := range benchmarkLine.FindAllSubmatch(out, -1) {
		if string(m[1]) == name {
			ns, err := strconv.ParseFloat(string(m[2]), 64)
			return ns / 1e9, err
		}
	}
	return 0, fmt.Errorf("go test printed no line of Benchmark%s:\n%s", name, out)
}
