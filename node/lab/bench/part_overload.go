package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
)

const (
	impatience = 2 * time.Second // how long a caller at a gate looks at the screen
	// lead is the quiet time before and after an overload, and leadShare its rate relative to capacity.
	lead      = 8 * time.Second
	leadShare = 0.8
	// maxInFlight holds the callers of five times the capacity of a fast machine, for as long as they wait. A process may
	// have fewer files, and then fewer callers.
	maxInFlight = 60_000
)

// factors are the offered loads relative to capacity.
var factors = []float64{1.5, 2, 3, 5}

// open returns a load of plain, impatient clients. A quarter of the punches enters in another region than the home.
func (s *session) open(rate float64, duration time.Duration, stress load.Stress) *openJob {
	stress.Client = load.Plain
	stress.Impatience, stress.Presses = impatience, 4
	return &openJob{
		Load: load.Load{
			Rate: rate, Duration: duration, Steady: true, CrossRegion: 0.25, Seed: 1, MaxInFlight: s.cmd.inFlight, TotalTimeout: 45 * time.Second,
		},
		Stress: stress, Entries: s.entries(), Companies: large(s.env.Companies),
	}
}

// large gives the companies so many employees that none punches twice in a run.
func large(companies []cluster.Company) []cluster.Company {
	companies = slices.Clone(companies)
	for i := range companies {
		companies[i].Employees = employees
	}
	return companies
}

func (s *session) send(ctx context.Context, j *openJob) (load.Result, error) {
	result, err := s.generate(ctx, &job{Open: j})
	return result.Open, err
}

// capacity returns the most punches per second that six nodes acknowledge to impatient callers. The rate rises until a
// step loses more than one punch of 100. Two more steps halve the distance between the last two rates. A step above the
// capacity keeps the nodes busy until its last answer, so the acknowledged punches over the whole time are the capacity.
// Later parts of a run use the value of an earlier part.
func (s *session) capacity(ctx context.Context) (float64, error) {
	if s.found > 0 {
		return s.found, nil
	}
	// A closed loop gives the order of magnitude.
	targets, _ := s.running()
	j := s.closed(targets, s.env.Companies)
	j.Connections = crowd
	most, err := s.generate(ctx, &job{Closed: &j})
	if err != nil {
		return 0, err
	}
	best, low, high := 0.0, 0.0, math.Inf(1)
	rate := most.Closed.Rate() * firstStep
	for step, halved := 0, 0; step < capacitySteps && halved <= capacityHalvings; step++ {
		acknowledged, carried, err := s.capacityStep(ctx, rate)
		if err != nil {
			return 0, err
		}
		best = max(best, acknowledged)
		if carried {
			low = rate
		} else {
			high = rate
		}
		switch {
		case math.IsInf(high, 1):
			rate *= stepUp
		case low == 0: // the closed loop was far too fast
			rate /= stepUp
		default:
			rate = math.Sqrt(low * high)
			halved++
		}
	}
	if low == 0 || math.IsInf(high, 1) {
		return 0, fmt.Errorf("capacity: not between the rates of %d steps; the last one was %.0f/s", capacitySteps, rate)
	}
	s.found = best
	return best, nil
}

// capacityStep sends at one rate, and reports how many punches were acknowledged and whether the nodes carried them all.
func (s *session) capacityStep(ctx context.Context, rate float64) (acknowledged float64, carried bool, err error) {
	var r load.Result
	for range 2 { // once more if the generator was late: the nodes may carry that rate
		if r, err = s.send(ctx, s.open(rate, s.cmd.Step, load.Stress{})); err != nil {
			return 0, false, err
		}
		if r.Void() == nil {
			break
		}
		s.say("capacity: %.0f/s: %v", rate, r.Void())
		if err := s.settle(ctx); err != nil {
			return 0, false, err
		}
	}
	carried = float64(r.Acknowledged) >= 0.99*float64(r.Sent) && r.Dropped == 0 && float64(r.Presses.Sent) <= 1.01*float64(r.Sent)
	s.say("capacity: %.0f/s offered, %.0f/s acknowledged, p99 %s, carried: %t", rate, r.Rate, brief(r.Presses.AcknowledgedIn.P99), carried)
	return r.Rate, carried, s.settle(ctx) // what the step left behind must not count against the next one
}

const (
	firstStep, stepUp = 0.6, 1.3
	capacitySteps     = 14
	capacityHalvings  = 2 // 7 % remain between a carried rate and one that is not
)

// settle waits until the nodes answer quickly again. Nodes that do not are replaced, so that the other steps of the part
// can be measured.
func (s *session) settle(ctx context.Context) error {
	err := s.quickAgain(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	s.say("%v; starting other nodes", err)
	counts := make(map[string]int)
	for _, n := range s.env.Nodes() {
		if n.Running() {
			counts[n.Region]++
		}
	}
	for _, region := range regions {
		if err := s.env.RemoveNodes(ctx, region, quietly); err != nil {
			return err
		}
	}
	return s.nodes(ctx, counts)
}

func (s *session) quickAgain(ctx context.Context) error {
	targets, _ := s.running()
	j := closedJob{Targets: targets, Companies: s.env.Companies, Connections: len(targets), Batch: 1, Duration: time.Second}
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for last := (closedResult{}); ; {
		r, err := s.generate(ctx, &job{Closed: &j})
		if err == nil && r.Closed.P99 < 250*time.Millisecond && r.Closed.Refused == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("the nodes did not become quick again: p99 %s, %d refused, such as %s", brief(last.P99), last.Refused,
				short(last.LastRefusal)), err)
		}
		if err == nil {
			last = r.Closed
		}
	}
}

// settleLimit is far above the bound of 5 s for the recovery, so that a slow recovery is measured and not an error.
const settleLimit = 30 * time.Second

func measureOverload(ctx context.Context, s *session, run *partRun) error {
	if err := s.six(ctx); err != nil {
		return err
	}
	capacity, err := s.capacity(ctx)
	if err != nil {
		return err
	}
	run.add("overload.capacity", capacity, "the most punches that six nodes acknowledge in a second to callers with a patience of 2 s")
	run.Ran = fmt.Sprintf("%s for each overload, and %s for the last one; before and after each, up to %s at %.1f times capacity",
		s.cmd.Overload, s.cmd.Recovery, lead, leadShare)
	for i, factor := range factors {
		before, long := lead/2, s.cmd.Overload
		if i == len(factors)-1 { // the recovery needs a longer time after it
			before, long = lead, s.cmd.Recovery
		}
		j := s.open(leadShare*capacity, before, load.Stress{Overload: factor / leadShare, For: long})
		r, err := s.measureStep(ctx, run, j, step{part: "overload", factor: factor, capacity: capacity})
		if err != nil {
			return err
		}
		if i == len(factors)-1 {
			addRecovery(run, &r)
		}
	}
	addWorst(run)
	addDoubt(run)
	run.again = s.profileOverload(3*capacity, load.Stress{})
	return s.measureOpenDoor(ctx, run, capacity)
}

// openDoorSeries is the curve of nodes without admission control.
const openDoorSeries = "open-door"

// openDoor is a node without admission control: no request waits an hour for a processor.
var openDoor = map[string]string{"overload-wait": "1h"}

// measureOpenDoor measures some overloads without admission control, for the plot. The nodes start anew afterwards.
func (s *session) measureOpenDoor(ctx context.Context, run *partRun, capacity float64) error {
	groups := make(map[string]cluster.NodeGroup)
	for _, region := range regions {
		groups[region] = cluster.NodeGroup{Count: 2, Settings: openDoor}
	}
	if err := s.groups(ctx, groups); err != nil {
		return err
	}
	for _, factor := range []float64{1.5, 3} {
		j := s.open(leadShare*capacity, lead/2, load.Stress{Overload: factor / leadShare, For: s.cmd.Overload})
		if _, err := s.measureStep(ctx, run, j, step{part: "overload", series: openDoorSeries, factor: factor, capacity: capacity}); err != nil {
			return err
		}
	}
	return s.six(ctx)
}

// step is one overload.
type step struct {
	part             string
	series           string // of the plot; empty for the name of the part, which has targets
	factor, capacity float64
}

// measureStep sends a load with an overload in its middle, and waits until the nodes are quick again.
func (s *session) measureStep(ctx context.Context, run *partRun, j *openJob, at step) (load.Result, error) {
	r, err := s.send(ctx, j)
	if err != nil {
		return r, err
	}
	s.sayStep(&r, at.factor)
	if err := addStep(run, at, &r); err != nil {
		return r, err
	}
	return r, s.settle(ctx)
}

func (s *session) sayStep(r *load.Result, factor float64) {
	for i := range r.Phases {
		p := &r.Phases[i]
		s.say("%.1f × capacity, %-8s: %6.0f/s sent, %6.0f/s acknowledged (p99 %s), %6.0f/s refused (p99 %s), %6.0f/s given up", factor, p.Name,
			p.Sent, p.Acknowledged, p.P99.Round(time.Millisecond), p.Refused, p.RefusalP99.Round(time.Millisecond), p.GaveUp)
	}
	if err := r.Void(); err != nil {
		s.say("void: %v", err)
	}
}

func addStep(run *partRun, at step, r *load.Result) error {
	if len(r.Phases) < 2 {
		return fmt.Errorf("a load with an overload has %d phases", len(r.Phases))
	}
	p := &r.Phases[1]
	dot := point{
		Series: cmp.Or(at.series, at.part), Offered: at.factor, Acknowledged: p.Acknowledged / at.capacity, P99: p.P99, RefusalP99: p.RefusalP99,
	}
	if err := r.Void(); err != nil {
		dot.Void = err.Error()
	}
	run.Points = append(run.Points, dot)
	text := fmt.Sprintf("%.0f/s acknowledged of %.0f presses/s; %.0f/s refused, %.0f/s given up; p99 %s acknowledged, %s refused",
		p.Acknowledged, p.Sent, p.Refused, p.GaveUp, brief(p.P99), brief(p.RefusalP99))
	key := fmt.Sprintf("%s.goodput.%g", at.part, at.factor)
	if at.series != "" {
		text = fmt.Sprintf("Without admission control, %g times capacity: %s", at.factor, text)
		key = fmt.Sprintf("%s.%s.%g", at.part, at.series, at.factor)
	}
	run.add(key, dot.Acknowledged, "%s", text)
	run.void(key, r)
	return nil
}

// addWorst adds the latencies that the targets name.
func addWorst(run *partRun) {
	var worst time.Duration
	var void string
	for _, p := range run.Points {
		worst, void = max(worst, p.RefusalP99), cmp.Or(void, p.Void)
		if p.Offered >= 2 {
			run.add(fmt.Sprintf("overload.p99.%g", p.Offered), p.P99.Seconds(), "at the 99th percentile, from the press to the receipt")
			run.Figures[len(run.Figures)-1].Void = p.Void
		}
	}
	run.add("overload.refusals", worst.Seconds(), "the slowest step, at the 99th percentile")
	run.Figures[len(run.Figures)-1].Void = void
}

// addDoubt says when an overload disproves the capacity. All ratios to it are too high then.
func addDoubt(run *partRun) {
	most := 0.0
	for _, p := range run.Points {
		most = max(most, p.Acknowledged)
	}
	if most > 1.1 {
		run.add("overload.doubt", most, "The capacity was found too low: an overload acknowledged %.2f times as much. Measure the part again", most)
	}
}

func addRecovery(run *partRun, r *load.Result) {
	if r.Recovery == nil {
		return
	}
	after, text := r.Recovery.After.Seconds(), "until the p99 of each second stays below 250 ms"
	if !r.Recovery.Recovered {
		after, text = max(after, lead.Seconds()), fmt.Sprintf("not within %s", lead)
	}
	run.add("overload.recovery", after, "%s", text)
	run.void("overload.recovery", r)
}

func measureStampede(ctx context.Context, s *session, run *partRun) error {
	if err := s.six(ctx); err != nil {
		return err
	}
	capacity, err := s.capacity(ctx)
	if err != nil {
		return err
	}
	run.Ran = fmt.Sprintf("%s for each overload; capacity %.0f/s", s.cmd.Overload, capacity)
	for _, factor := range factors {
		j := s.open(leadShare*capacity, lead/2, load.Stress{Overload: factor / leadShare, For: s.cmd.Overload, Stampede: true})
		if _, err := s.measureStep(ctx, run, j, step{part: "stampede", factor: factor, capacity: capacity}); err != nil {
			return err
		}
	}
	run.again = s.profileOverload(3*capacity, load.Stress{Stampede: true})
	return nil
}

// measureFlood compares the other companies beside a flood with the same companies alone. The total is twice the
// capacity, and one company sends 80 % of it, so the others send 40 % of the capacity.
func measureFlood(ctx context.Context, s *session, run *partRun) error {
	if err := s.six(ctx); err != nil {
		return err
	}
	capacity, err := s.capacity(ctx)
	if err != nil {
		return err
	}
	const total, share = 2.0, 0.8
	flooder := s.env.Companies[0].ID
	run.Ran = fmt.Sprintf("%s each at %g times capacity; capacity %.0f/s", s.cmd.Overload, total, capacity)
	alone := s.open((1-share)*total*capacity, s.cmd.Overload, load.Stress{Flood: flooder, FloodShare: 0})
	beside := s.open(total*capacity, s.cmd.Overload, load.Stress{Flood: flooder, FloodShare: share})
	without, err := s.send(ctx, alone)
	if err != nil {
		return err
	}
	with, err := s.send(ctx, beside)
	if err != nil {
		return err
	}
	if without.Others == nil || with.Others == nil || without.Others.Acknowledged == 0 {
		return errors.New("the load did not report the other companies apart")
	}
	goodput := func(r *load.Result) float64 { return float64(r.Others.Acknowledged) / s.cmd.Overload.Seconds() }
	run.add("flood.others", goodput(&with)/goodput(&without),
		"%.0f/s beside the flood (p99 %s), %.0f/s alone (p99 %s); the flooding company got %.0f/s",
		goodput(&with), brief(with.Others.P99), goodput(&without), brief(without.Others.P99), float64(with.Flood.Acknowledged)/s.cmd.Overload.Seconds())
	run.void("flood.others", &with)
	run.again = s.profileOverload(total*capacity, load.Stress{Flood: flooder, FloodShare: share})
	return s.settle(ctx)
}

func brief(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
