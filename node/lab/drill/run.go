package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/lab/load"
)

// run is one drill: a load, a scenario that breaks and heals, and observations.
type run struct {
	scenario Scenario
	target   *target
	load     load.Load
	ledger   string // path of the ledger
	settle   time.Duration
	progress func(load.Progress)

	samples samples
	watcher *watcher
	devices []*device // devices that can reach the victim alone
	plain   *Plain    // written by runPlain alone

	seen recoveryTimes // written by observe alone

	mu      sync.Mutex // guards moments
	moments Moments
}

// execute runs the drill and returns its outcome. The outcome is never empty. The error says why the drill did not
// come to its end, and the outcome holds the same text. Outcome.Verdict judges what was found.
func (r *run) execute(ctx context.Context) (Outcome, error) {
	r.watcher = newWatcher(&r.target.state)
	defer r.watcher.close()
	r.moments.Begin = time.Now()
	result, err := r.runLoad(ctx)
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		err = fmt.Errorf("interrupted: %w", err)
	}
	r.target.say("auditing")
	// The audit also runs after an error or an interruption. The ledger holds what was sent until then, and the
	// drill's own cluster is gone afterwards.
	detached := context.WithoutCancel(ctx)
	report, failure := r.audit(detached)
	boxes, unread := r.countOutboxes(detached)
	err = errors.Join(err, failure, unread)
	o := r.outcome(&result, report, boxes)
	if err != nil {
		o.Error = err.Error()
	} else {
		o.checkBounds(r.scenario.Bounds, r.settle)
	}
	return o, err
}

// runLoad sends the load while the scenario runs. It returns after the last answer, when the cluster is whole or the
// time to settle has passed.
func (r *run) runLoad(ctx context.Context) (result load.Result, err error) {
	ledger, err := CreateLedger(r.ledger)
	if err != nil {
		return load.Result{}, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	r.target.ledger = ledger
	if r.scenario.offlineDevices {
		if r.devices, err = newDevices(r.target, ledger, r.outboxDir()); err != nil {
			return load.Result{}, err
		}
		defer closeDevices(r.devices)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	enough := make(chan struct{})
	errs := make([]error, 3+len(r.devices))
	var actors sync.WaitGroup
	actors.Go(func() {
		defer close(enough)
		errs[0] = r.runScenario(ctx)
		r.mark(func(m *Moments) *time.Time { return &m.End })
	})
	actors.Go(func() { errs[1] = r.observe(ctx, enough) })
	actors.Go(func() { errs[2] = r.runPlain(ctx, ledger, enough) })
	for i, d := range r.devices {
		actors.Go(func() { errs[3+i] = d.run(ctx, enough, r.settle) })
	}
	result, err = load.Run(ctx, load.Config{
		Load: r.load, Entries: r.target.state.Entries(), Companies: r.target.state.Companies,
		Journal: ledger, Observe: r.samples.add, Stop: enough, Progress: r.progress,
	})
	if err != nil {
		cancel(err)
	}
	actors.Wait()
	return result, distinct(append(errs, err)...)
}

// outboxDir is a folder beside the ledger.
func (r *run) outboxDir() string { return filepath.Join(filepath.Dir(r.ledger), "outboxes") }

// distinct joins errors and drops an error that an earlier one wraps already. An interruption ends all parts of a
// drill with the same error.
func distinct(errs ...error) (joined error) {
	for _, err := range errs {
		if !errors.Is(joined, err) {
			joined = errors.Join(joined, err)
		}
	}
	return joined
}

// runScenario breaks and heals. After the break has begun it always heals, also if the break fails or ctx ends: a cluster
// that the drill did not start must not stay broken.
func (r *run) runScenario(ctx context.Context) error {
	if !cluster.Pause(ctx, r.scenario.Before) {
		return context.Cause(ctx)
	}
	r.awaitServed(ctx, time.Time{})
	broke := r.inject(ctx)
	if err := errors.Join(broke, r.heal(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if !cluster.Pause(ctx, r.scenario.After) {
		return context.Cause(ctx)
	}
	r.awaitServed(ctx, r.now().Healed)
	return nil
}

// servedTimeout is a little longer than the client retries. After it a punch has failed.
const servedTimeout = time.Minute

// awaitServed returns when every home has the receipt of a punch that was due after a moment. On a busy machine that
// takes longer than a scenario's phases, and a phase without receipts shows nothing. After servedTimeout it returns
// anyway, and the evidence says what is missing.
func (r *run) awaitServed(ctx context.Context, since time.Time) {
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	for homes := r.target.homes(); !r.samples.served(homes, since); {
		if !cluster.Pause(ctx, watchEvery) {
			return
		}
	}
}

// actTimeout limits a break and a heal. A database recovers from its log within a minute, and six nodes restart in
// turn within two. An operator's tool that builds machines takes up to ten.
const actTimeout = 15 * time.Minute

var errActTimeout = fmt.Errorf("took longer than %s", actTimeout)

// inject breaks, and returns when it is time to heal.
func (r *run) inject(ctx context.Context) error {
	r.target.say("breaking: %s (%s)", r.scenario.About, r.target.victim)
	r.mark(func(m *Moments) *time.Time { return &m.Breaking })
	acting, cancel := context.WithTimeoutCause(ctx, actTimeout, errActTimeout)
	defer cancel()
	if err := r.scenario.inject(acting, r.target); err != nil {
		return fmt.Errorf("breaking: %w", err)
	}
	r.mark(func(m *Moments) *time.Time { return &m.Broken })
	if !cluster.Pause(ctx, r.scenario.During) {
		return context.Cause(ctx)
	}
	return nil
}

// heal must not be cancelled: its ctx does not end with the drill's.
func (r *run) heal(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, actTimeout, errActTimeout)
	defer cancel()
	r.mark(func(m *Moments) *time.Time { return &m.Healing })
	if r.scenario.heal != nil {
		r.target.say("healing")
		if err := r.scenario.heal(ctx, r.target); err != nil {
			return fmt.Errorf("healing, and the cluster may still be broken: %w", err)
		}
	}
	r.mark(func(m *Moments) *time.Time { return &m.Healed })
	return nil
}

func (r *run) mark(moment func(*Moments) *time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*moment(&r.moments) = time.Now()
}

func (r *run) now() Moments {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moments
}

// observe watches the cluster from the break on. It returns after the arrivals have ended, when the cluster is whole
// or the time to settle has passed.
func (r *run) observe(ctx context.Context, enough <-chan struct{}) error {
	for {
		switch m := r.now(); {
		case !m.Healed.IsZero():
			r.watchRecovery(ctx)
		case !m.Breaking.IsZero() && r.seen.loss.IsZero():
			if lossSeen(r.watcher.look(ctx, r.target.victim)) {
				r.seen.loss = time.Now()
			}
		}
		select {
		case <-enough:
			m := r.now()
			whole := !r.seen.members.IsZero() && !r.seen.leases.IsZero()
			if whole || m.Healed.IsZero() || time.Since(m.Healed) > r.settle {
				return nil
			}
		default:
		}
		if !cluster.Pause(ctx, watchEvery) {
			return context.Cause(ctx)
		}
	}
}

func (r *run) watchRecovery(ctx context.Context) {
	if r.seen.members.IsZero() && allWhole(r.watcher.look(ctx, allRegions)) {
		r.seen.members = time.Now()
	}
	if !r.seen.members.IsZero() && r.seen.leases.IsZero() {
		// An error means that the database is not back yet.
		if home, err := r.watcher.leasesHome(ctx); err == nil && home {
			r.seen.leases = time.Now()
		}
	}
}

// recoveryTimes says when each event was seen first; zero when it was not seen.
type recoveryTimes struct{ loss, members, leases time.Time }

// watch returns the times as durations from the moments of the drill.
func (s *recoveryTimes) watch(m *Moments) Recovery {
	since := func(moment, seen time.Time) *time.Duration {
		if moment.IsZero() || seen.IsZero() {
			return nil
		}
		return new(max(0, seen.Sub(moment)))
	}
	return Recovery{LossSeen: since(m.Broken, s.loss), MembersBack: since(m.Healed, s.members), LeasesBack: since(m.Healed, s.leases)}
}

// auditTimeout is enough for a million rows in a database that has just lost a region. A whole database needs less
// than a minute.
const auditTimeout = 5 * time.Minute

func (r *run) audit(ctx context.Context) (*audit.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	file, err := os.Open(r.ledger)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	report, err := audit.Run(ctx, file, r.target.state.Database.URL)
	if err != nil {
		return nil, err
	}
	return &report, nil
}

// countOutboxes returns nil if the scenario has no devices with outboxes. It removes empty outboxes.
func (r *run) countOutboxes(ctx context.Context) (*Outboxes, error) {
	if len(r.devices) == 0 {
		return nil, nil
	}
	boxes, err := outboxes(ctx, r.devices, r.moments.Healed)
	if err != nil {
		return nil, err
	}
	return boxes, boxes.removeEmpty(r.outboxDir())
}

// lateAlready is far more than the generator is late on an idle machine.
const lateAlready = 50 * time.Millisecond

// outcome assembles the outcome.
func (r *run) outcome(result *load.Result, report *audit.Report, boxes *Outboxes) Outcome {
	state, homes, entries := &r.target.state, r.target.homes(), r.target.entries()
	o := Outcome{
		Scenario: r.scenario.Name, About: r.scenario.About,
		Engine: state.Database.Engine + " " + state.Database.Version, Nodes: len(state.Nodes),
		Victim: r.target.victim, Rate: r.load.Rate, Notes: r.target.notes, Moments: r.moments, Recovery: r.seen.watch(&r.moments),
		Ledger: report, Outboxes: boxes, Plain: r.plain, Overloads: r.target.overloads, WrongTimes: wrongTimes(r.samples.all, &r.moments), Dropped: result.Dropped, Late: result.Late, Failed: result.Sent - result.Acknowledged, Retries: result.Retries, Codes: result.Codes,
		Homes:   homeFigures(r.samples.all, homes, &r.moments),
		Gaps:    gaps(r.samples.all, homes, entries, &r.moments),
		Seconds: timeline(r.samples.all, homes, r.moments.Begin),
	}
	if result.Late > lateAlready {
		o.Notes = append(o.Notes, "the machine was busy: the generator began punches "+brief(result.Late)+" late at the 99th percentile, so the figures do not measure Punchclock")
	}
	if state.Database.Engine == cluster.Postgres {
		o.Recovery.LeasesBack = nil // PostgreSQL has no leases
		o.Notes = append(o.Notes, "PostgreSQL takes the place of the databases of all regions, so this shows nothing about the loss of one database region")
	}
	return o
}
