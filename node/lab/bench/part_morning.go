package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/lab/load"
)

const (
	// A million employees punch in within half an hour, and 1,700 of them in each second of the worst minute.
	morningRate, morningPeak = 556.0, 1700.0
	morningBusiest           = time.Minute
	morningP99               = 250 * time.Millisecond
)

// measureMorning sends the morning of a million employees to six nodes and accounts for every punch. Then it sends
// punches as fast as the machine can record them.
func measureMorning(ctx context.Context, s *session, run *partRun) error {
	if err := s.six(ctx); err != nil {
		return err
	}
	each := (s.cmd.Morning - morningBusiest) / 2
	j := s.open(morningRate, each, load.Stress{Overload: morningPeak / morningRate, For: morningBusiest})
	j.Ledger = s.env.Path("morning.jsonl")
	r, err := s.send(ctx, j)
	if err != nil {
		return err
	}
	s.sayStep(&r, morningPeak/morningRate)
	file, err := os.Open(j.Ledger)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	report, err := audit.Run(ctx, file, s.env.DatabaseURL(regions[0]))
	if err != nil {
		return err
	}
	run.Ran = fmt.Sprintf("%s at %.0f/s with one minute at %.0f/s in the middle; then %s of %d patient callers",
		s.cmd.Morning, morningRate, morningPeak, s.cmd.Rush, crowd)
	lost := 0.0
	if err := report.Verdict(); err != nil {
		lost = 1
		s.say("audit: %v\n%s", err, &report)
	}
	run.again = s.profileOverload(morningPeak, load.Stress{})
	run.add("morning.faults", lost, "%d punches, %d acknowledged; the audit compared every receipt with its row", r.Sent, r.Acknowledged)
	text := fmt.Sprintf("from the press to the receipt; %d of %d presses were refused, %d given up", sum(r.Presses.Refused), r.Presses.Sent, r.Presses.GaveUp)
	run.add("morning.p99", r.Presses.AcknowledgedIn.P99.Seconds(), "%s", text)
	run.void("morning.p99", &r)
	return s.measureRush(ctx, run)
}

func sum(counts map[int]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func (s *session) measureRush(ctx context.Context, run *partRun) error {
	targets, _ := s.running()
	j := s.closed(targets, s.env.Companies)
	j.Connections, j.Duration = crowd, s.cmd.Rush
	r, err := s.generate(ctx, &job{Closed: &j})
	if err != nil {
		return err
	}
	run.add("morning.rush", r.Closed.Rate(), "%d punches in %s; a million at this rate take %s", r.Closed.Acknowledged, brief(r.Closed.Took),
		time.Duration(1e6/r.Closed.Rate()*float64(time.Second)).Round(time.Second))
	return nil
}
