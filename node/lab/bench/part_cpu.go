package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
)

// measureCPU compares the CPU of nodes per punch with a handler that decodes the same JSON and answers the same bytes.
func measureCPU(ctx context.Context, s *session, run *partRun) (err error) {
	bare, err := s.startServer(ctx, &peerConfig{Design: "bare"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	if err := s.pair(ctx); err != nil {
		return err
	}
	east, eastPID := s.running("us-east")
	_, both := s.running()
	floor := &subject{name: "bare handler", job: s.closed([]string{bare.url}, s.companies("us-east")), pids: []int{bare.pid()}}
	full := &subject{name: "node, full load", job: s.closed(east, s.companies("us-east")), pids: eastPID}
	forwarded := &subject{name: "forwarded, both nodes", job: s.closed(east, s.companies("eu-west")), pids: both}
	if err := s.compare(ctx, s.cmd.Rounds, floor, full, forwarded); err != nil {
		return err
	}
	run.Ran = fmt.Sprintf("%d rounds of %s with %d connections", s.cmd.Rounds, s.cmd.Round, patient)
	µs := func(one *subject) float64 { return 1e6 * median(one.cpu) }
	run.add("cpu.full", ratio(full.cpu, floor.cpu), "%.0f µs against %.0f µs of the bare handler, at %.0f punches/s", µs(full), µs(floor), median(full.rates))
	run.addProfile(s.profile(ctx, full, s.env.Region("us-east")[0]))
	run.add("cpu.forwarded", ratio(forwarded.cpu, floor.cpu), "%.0f µs of both nodes against %.0f µs, at %.0f punches/s",
		µs(forwarded), µs(floor), median(forwarded.rates))
	run.addProfile(s.profile(ctx, forwarded, s.env.Region("us-east")[0]))
	return s.measureTenth(ctx, run, µs(floor))
}

// measureTenth gives six nodes a tenth of their capacity. Batches are small then, and every timer counts.
func (s *session) measureTenth(ctx context.Context, run *partRun, floor float64) error {
	if err := s.six(ctx); err != nil {
		return err
	}
	capacity, err := s.capacity(ctx)
	if err != nil {
		return err
	}
	_, pids := s.running()
	before, err := cpuOf(pids...)
	if err != nil {
		return err
	}
	r, err := s.send(ctx, s.open(capacity/10, s.cmd.Overload, load.Stress{}))
	if err != nil {
		return err
	}
	after, err := cpuOf(pids...)
	if err != nil {
		return err
	}
	each := 1e6 * (after - before) / float64(max(1, r.Acknowledged))
	run.add("cpu.tenth", each/floor, "%.0f µs of all six nodes at %.0f punches/s, against %.0f µs of the bare handler at full load", each, r.Rate, floor)
	run.addProfile(s.profileWhile(ctx, "six nodes, a tenth", s.env.Region("us-east")[0], s.profileOverload(capacity/10, load.Stress{})))
	return nil
}

// profileTime is enough for a thousand samples of a busy node.
const profileTime = 5 * time.Second

// addProfile names the profile of the latest figure.
func (r *partRun) addProfile(file string, err error) {
	last := &r.Figures[len(r.Figures)-1]
	if err != nil {
		last.Text += fmt.Sprintf(" (no profile: %v)", err)
		return
	}
	last.Profile = file
}

// profile takes a profile of a node during one more round of a subject.
func (s *session) profile(ctx context.Context, one *subject, node *cluster.Node) (string, error) {
	return s.profileWhile(ctx, one.name, node, s.profileRound(one))
}

// explain takes a profile for the missed targets of a part. One profile explains all of them, because they come from one
// kind of load.
func (s *session) explain(ctx context.Context, name string, run *partRun) {
	var missed []*figure
	for i := range targets {
		if t := &targets[i]; t.part == name {
			for j := range run.Figures {
				if f := &run.Figures[j]; f.Key == t.key && f.Profile == "" && !t.met(s.engine, f.Value) {
					missed = append(missed, f)
				}
			}
		}
	}
	if len(missed) == 0 || run.again == nil {
		return
	}
	var node *cluster.Node
	for _, n := range s.env.Nodes() {
		if n.Running() && node == nil {
			node = n
		}
	}
	if node == nil {
		return
	}
	file, err := s.profileWhile(ctx, name, node, run.again)
	if err != nil {
		s.say("no profile of %s: %v", name, err)
	}
	for _, f := range missed {
		f.Profile = file
	}
}

// profileRound is long enough for a profile during a round of a subject.
func (s *session) profileRound(one *subject) func(context.Context) error {
	j := one.job
	j.Duration = profileTime + 2*time.Second
	return func(ctx context.Context) error {
		_, err := s.generate(ctx, &job{Closed: &j})
		return err
	}
}

// profileOverload is the same with a load that comes whether or not earlier punches are answered.
func (s *session) profileOverload(rate float64, stress load.Stress) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := s.send(ctx, s.open(rate, profileTime+2*time.Second, stress))
		return err
	}
}

// profileWhile takes a profile while a load runs, and keeps its top functions as text beside the results.
func (s *session) profileWhile(ctx context.Context, name string, node *cluster.Node, sending func(context.Context) error) (string, error) {
	sent := make(chan error, 1)
	go func() { sent <- sending(ctx) }()
	cluster.Pause(ctx, time.Second) // the load has begun
	raw := s.env.Path("cpu.pprof")
	err := s.fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", node.OpsURL, profileTime.Seconds()), raw)
	if err = errors.Join(err, <-sent); err != nil {
		return "", err
	}
	top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=25", raw).Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w", err)
	}
	file := filepath.Join(s.cmd.Out, "profiles", s.engine+"-"+slug(name)+".txt")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(file, top, 0o644); err != nil {
		return "", err
	}
	return filepath.Rel(filepath.Dir(s.cmd.Report), file)
}

// slug makes the name of a file.
func slug(name string) string {
	out := []byte(name)
	for i, c := range out {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9') {
			out[i] = '-'
		}
	}
	return string(out)
}

// fetch stores the answer of a node's operations listener. Profiles are for operators.
func (s *session) fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.env.OperatorToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // only read
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, res.Status, body[:min(len(body), 200)])
	}
	return os.WriteFile(file, body, 0o600)
}

// measureNodes compares six nodes with one node on the same core, with punches of all homes. The callers of six nodes
// use any node, so two thirds of the punches are forwarded. One node writes all of them itself.
func measureNodes(ctx context.Context, s *session, run *partRun) error {
	run.Ran = fmt.Sprintf("%d rounds of %s with %d connections; the nodes are exchanged between the rounds", s.cmd.Rounds, s.cmd.Round, crowd)
	six, one := &subject{name: "six nodes"}, &subject{name: "one node"}
	run.again = func(ctx context.Context) error {
		targets, _ := s.running()
		again := &subject{job: s.closed(targets, s.env.Companies)}
		again.job.Connections = crowd
		return s.profileRound(again)(ctx)
	}
	for range s.cmd.Rounds {
		for _, side := range []struct {
			start func(context.Context) error
			*subject
		}{{s.six, six}, {s.one, one}} {
			if err := side.start(ctx); err != nil {
				return err
			}
			targets, pids := s.running()
			side.job, side.pids = s.closed(targets, s.env.Companies), pids
			side.job.Connections = crowd
			if err := s.round(ctx, side.subject); err != nil {
				return err
			}
		}
	}
	if ratio(six.rates, one.rates) < 1 { // the profile must be of a node among six
		if err := s.six(ctx); err != nil {
			return err
		}
	}
	run.add("nodes.six", ratio(six.rates, one.rates), "%.0f punches/s against %.0f; %.0f µs of CPU of the nodes per punch against %.0f",
		median(six.rates), median(one.rates), 1e6*median(six.cpu), 1e6*median(one.cpu))
	return nil
}
