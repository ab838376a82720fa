package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
)

const (
	idleConnections = 20_000
	idleHold        = 4 * time.Second
	// fillTime is less than the time limit of a punch, so the first punches still wait when the last ones come.
	fillTime    = 10 * time.Second
	fillCallers = 240 // with 256 punches under way each, more than the queues of three homes hold
	fillBatch   = 1000
	fillPeople  = 12_000 // single punches beside them, which need more memory than batches leave
)

func mebi(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// measureMemory looks at the memory of a node, and of six nodes under a long overload.
func measureMemory(ctx context.Context, s *session, run *partRun) error {
	if err := s.six(ctx); err != nil {
		return err
	}
	if err := s.measureIdle(ctx, run); err != nil {
		return fmt.Errorf("idle connections: %w", err)
	}
	if err := s.one(ctx); err != nil {
		return err
	}
	if err := s.measureFull(ctx, run); err != nil {
		return fmt.Errorf("full queues: %w", err)
	}
	if err := s.measureGrowth(ctx, run); err != nil {
		return fmt.Errorf("growth: %w", err)
	}
	run.Ran = fmt.Sprintf("%d connections to six nodes; one node for %s with full queues while the database is frozen; six nodes for %s at three times capacity",
		idleConnections, fillTime, s.cmd.Growth)
	return nil
}

// measureIdle opens connections to six nodes from two processes. A process often has 20,000 files at most.
func (s *session) measureIdle(ctx context.Context, run *partRun) error {
	urls, pids := s.running()
	for i, u := range urls {
		urls[i] = strings.TrimPrefix(u, "http://")
	}
	before, err := residentOf(pids...)
	if err != nil {
		return err
	}
	var results [2]outcome
	done := make(chan error, 1)
	go func() {
		var both errgroup.Group
		for i := range results {
			both.Go(func() (err error) {
				results[i], err = s.generate(ctx, &job{Idle: &idleJob{Targets: urls, Connections: idleConnections / len(results), Hold: idleHold}})
				return err
			})
		}
		done <- both.Wait()
	}()
	highest, err := watchMemory(ctx, pids, done)
	if err != nil {
		return err
	}
	open, refused := 0, ""
	for i := range results {
		open += results[i].Idle.Open
		refused = cmp.Or(refused, results[i].Idle.Error)
	}
	text := fmt.Sprintf("%.0f MiB of six nodes with %d idle connections, %.0f MiB before: %.1f KiB for each", mebi(highest), open, mebi(before),
		float64(highest-before)/1024/float64(max(1, open)))
	if refused != "" {
		text += "; the next connection failed: " + short(refused)
	}
	run.add("memory.idle", mebi(highest), "%s", text)
	return nil
}

// watchMemory returns the highest memory of processes until done.
func watchMemory(ctx context.Context, pids []int, done <-chan error) (highest int64, err error) {
	for {
		now, err := residentOf(pids...)
		if err != nil {
			return 0, err
		}
		highest = max(highest, now)
		select {
		case err := <-done:
			return highest, err
		default:
			cluster.Pause(ctx, 100*time.Millisecond)
		}
	}
}

// measureFull freezes the database. It sends batches and single punches until the node takes no more.
func (s *session) measureFull(ctx context.Context, run *partRun) (err error) {
	urls, pids := s.running()
	before, err := residentOf(pids...)
	if err != nil {
		return err
	}
	if err := s.signalDatabase(syscall.SIGSTOP); err != nil {
		return err
	}
	done := make(chan error, 1)
	results := make([]outcome, 2)
	go func() {
		var both errgroup.Group
		for i, j := range []closedJob{
			{Connections: fillCallers, Batch: fillBatch}, {Connections: min(fillPeople, s.cmd.inFlight), Batch: 1},
		} {
			j.Targets, j.Companies, j.Duration = urls, s.env.Companies, fillTime
			both.Go(func() (err error) {
				results[i], err = s.generate(ctx, &job{Closed: &j})
				return err
			})
		}
		done <- both.Wait()
	}()
	highest, err := watchMemory(ctx, pids, done)
	if err = errors.Join(err, s.signalDatabase(syscall.SIGCONT)); err != nil {
		return err
	}
	batches, people := &results[0].Closed, &results[1].Closed
	run.add("memory.full", mebi(highest), "%.0f MiB at the highest, %.0f MiB before; %d punches in batches and %d single ones were refused meanwhile: %s",
		mebi(highest), mebi(before), batches.Refused, people.Refused, short(cmp.Or(people.LastRefusal, batches.LastRefusal)))
	return nil
}

// signalDatabase reaches every process of the database. PostgreSQL has one for each connection, and freezing the first
// process alone would leave the others at work.
func (s *session) signalDatabase(sig syscall.Signal) error {
	children, err := childrenOf()
	if err != nil {
		return err
	}
	for _, pid := range s.databasePIDs() {
		if err := syscall.Kill(pid, sig); err != nil {
			return fmt.Errorf("database, pid %d: %w", pid, err)
		}
		for _, child := range children[pid] {
			_ = syscall.Kill(child, sig) // a connection that has just ended needs no signal
		}
	}
	return nil
}

func short(text string) string { return text[:min(len(text), 120)] }

// measureGrowth compares the memory in the last third of a long overload with the third before. The first third is
// left out, because caches and pools fill.
func (s *session) measureGrowth(ctx context.Context, run *partRun) error {
	if err := s.six(ctx); err != nil {
		return err
	}
	capacity, err := s.capacity(ctx)
	if err != nil {
		return err
	}
	_, pids := s.running()
	run.again = s.profileOverload(3*capacity, load.Stress{})
	done := make(chan error, 1)
	var result load.Result
	go func() {
		var err error
		result, err = s.send(ctx, s.open(3*capacity, s.cmd.Growth, load.Stress{}))
		done <- err
	}()
	var samples []float64
	for began := time.Now(); ; {
		now, err := residentOf(pids...)
		if err != nil {
			return err
		}
		if time.Since(began) <= s.cmd.Growth {
			samples = append(samples, mebi(now))
		}
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			third := len(samples) / 3
			middle, last := median(samples[third:2*third]), median(samples[2*third:])
			run.add("memory.growth", last/middle, "%.0f MiB of six nodes in the last third of %s, %.0f MiB in the third before", last, s.cmd.Growth, middle)
			run.void("memory.growth", &result)
			return s.settle(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}
