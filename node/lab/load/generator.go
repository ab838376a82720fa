// Package load generates the load of a morning. It is an open model: each punch is sent when it is due, however slow
// the answers to other punches are. Its latency counts from that moment, so a stall shows in every punch that it
// delayed, and coordinated omission is impossible. The package measures speed and answers. Package
// node/lab/drill/audit checks whether the answers are true.
package load

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// Journal keeps the evidence of a run. Intend must have kept the request when it returns, before the request is sent.
// Settle follows the outcome. An error of either ends the run, because the run could not be audited.
type Journal interface {
	Intend(intended time.Time, entryRegion string, claim punch.Request) (seq uint64, err error)
	Settle(seq uint64, receipt punch.Receipt, err error) error
}

// Outcome is the result of one punch, without its planned repeats.
type Outcome struct {
	Home     string
	Entry    string    // the region whose endpoints were tried first
	Due      time.Time // when the punch was due
	Settled  time.Time // when its receipt or its last error came
	Received time.Time // the receipt's receive time; zero without a receipt
	Attempts int
	Err      error // nil if the punch was acknowledged
}

// Config is the configuration of a run. Load, Entries and Companies are required.
type Config struct {
	Load      Load
	Stress    Stress
	Entries   []cluster.Entry
	Companies []cluster.Company
	Journal   Journal
	// Observe is called once for each punch that was sent, from many goroutines.
	Observe func(Outcome)
	// Stop ends the arrivals early when it is closed. Run still waits for the punches under way.
	Stop <-chan struct{}
	// Progress is called about five times a second, and once at the end.
	Progress func(Progress)
	// Processes are those whose CPU the result reports.
	Processes Processes
	// Roots verify the certificates of https endpoints. The default is the system's pool.
	Roots *x509.CertPool
}

func (c *Config) validate() error {
	if err := errors.Join(c.Stress.validate(), c.Load.validate(&c.Stress)); err != nil {
		return err
	}
	if len(c.Entries) == 0 || len(c.Companies) == 0 {
		return errors.New("the load needs at least one region and one company")
	}
	for _, e := range c.Entries {
		if len(e.Endpoints) == 0 {
			return fmt.Errorf("region %s: no endpoint", e.Region)
		}
	}
	for _, company := range c.Companies {
		if c.home(company.Home) == none {
			return fmt.Errorf("company %s: its home %q is not one of the regions", company.ID, company.Home)
		}
	}
	if flood := c.Stress.Flood; flood != "" && !slices.ContainsFunc(c.Companies, func(c cluster.Company) bool { return c.ID == flood }) {
		return fmt.Errorf("--flood: no company %q", flood)
	}
	return nil
}

func (c *Config) home(name string) int {
	return slices.IndexFunc(c.Entries, func(e cluster.Entry) bool { return e.Region == name })
}

// Run sends the whole load, waits for the last answer and returns the result. If ctx ends or the journal fails, it
// ends early and returns the result so far with the error.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if err := cfg.validate(); err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g := &generator{
		cfg: &cfg, fail: fail,
		arrivals: plan(cfg.Load, cfg.Stress, len(cfg.Entries), cfg.Companies, func(i int) int { return cfg.home(cfg.Companies[i].Home) }),
	}
	send, err := g.sender()
	if err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	g.tally = newTally(&cfg)
	stopProgress, stopUsage := g.reportProgress(), g.measureUsage()
	send(ctx)
	took := time.Since(g.tally.begin)
	used, waited := stopUsage()
	stopProgress()
	result := g.tally.result(&cfg, took, used)
	result.Waited = waited
	return result, context.Cause(ctx)
}

// generator is one run.
type generator struct {
	cfg      *Config
	fail     context.CancelCauseFunc
	arrivals []arrival
	tally    *tally
}

// sender returns the function that sends all arrivals and returns after the last answer.
func (g *generator) sender() (func(context.Context), error) {
	if g.cfg.Stress.Client != Plain {
		r, err := newReference(g)
		if err != nil {
			return nil, err
		}
		return r.send, nil
	}
	f, err := newFleet(g)
	if err != nil {
		return nil, err
	}
	return f.send, nil
}

// measureUsage measures CPU and the waits of goroutines until the returned function is called.
func (g *generator) measureUsage() (stop func() ([]usage, time.Duration)) {
	ctx, cancel := context.WithCancel(context.Background())
	before := schedulerWaits()
	var used []usage
	var sampler sync.WaitGroup
	sampler.Go(func() { used = sampleUsage(ctx, g.tally.begin, g.cfg.Processes) })
	return func() ([]usage, time.Duration) {
		cancel()
		sampler.Wait()
		return used, waitedP99(before, schedulerWaits())
	}
}

// observe calls Config.Observe for a punch without its planned repeats.
func (g *generator) observe(s *settled, received time.Time) {
	if g.cfg.Observe == nil {
		return
	}
	g.cfg.Observe(Outcome{
		Home: g.cfg.Companies[s.arrival.company].Home, Entry: g.cfg.Entries[s.arrival.entry].Region,
		Due: s.due, Settled: s.ended, Received: received, Attempts: s.attempts, Err: s.err,
	})
}
