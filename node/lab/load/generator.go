// Package load generates the load of a morning. It is an open model: each punch is sent when it is due, however slow
// the answers to other punches are. Its latency counts from that moment, so a stall shows in every punch that it
// delayed, and coordinated omission is impossible. The package measures speed and answers. Package
// node/lab/drill/audit checks whether the answers are true.
package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/client"
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
	Entries   []cluster.Entry
	Companies []cluster.Company
	Journal   Journal
	// Observe is called once for each punch that was sent, from many goroutines.
	Observe func(Outcome)
	// Stop ends the arrivals early when it is closed. Run still waits for the punches under way.
	Stop <-chan struct{}
	// Progress is called about five times a second, and once at the end.
	Progress func(Progress)
}

func (c *Config) validate() error {
	if err := c.Load.validate(); err != nil {
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
	transport := newTransport(cfg.Load.MaxInFlight)
	defer transport.CloseIdleConnections()
	clients, err := newClients(&cfg, transport)
	if err != nil {
		return Result{}, fmt.Errorf("load: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g := &generator{
		cfg: &cfg, clients: clients, fail: fail,
		arrivals: plan(cfg.Load, len(cfg.Entries), cfg.Companies, func(i int) int { return cfg.home(cfg.Companies[i].Home) }),
		slots:    make(chan struct{}, cfg.Load.MaxInFlight),
		tally:    newTally(&cfg),
	}
	stopProgress := g.reportProgress()
	g.send(ctx)
	stopProgress()
	return g.tally.result(time.Since(g.tally.begin)), context.Cause(ctx)
}

// newTransport returns the transport of all clients. It keeps a connection for each punch in flight, so that the load
// does not measure its own connecting.
func newTransport(maxInFlight int) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: maxInFlight,
		IdleConnTimeout:     50 * time.Second,
	}
}

// newClients makes a client for each region and company. Its endpoints are the region's own first, rotated by company,
// and then those of the other regions.
func newClients(cfg *Config, transport http.RoundTripper) ([][]*client.Client, error) {
	clients := make([][]*client.Client, len(cfg.Entries))
	for i := range cfg.Entries {
		for j, company := range cfg.Companies {
			var endpoints []string
			for k := range cfg.Entries {
				own := cfg.Entries[(i+k)%len(cfg.Entries)].Endpoints
				turn := j % len(own)
				endpoints = append(append(endpoints, own[turn:]...), own[:turn]...)
			}
			c, err := client.New(client.Config{
				Endpoints: endpoints, Token: client.StaticToken(company.Token),
				HTTPClient: &http.Client{Transport: transport}, TotalTimeout: cfg.Load.TotalTimeout, AttemptTimeout: cfg.Load.AttemptTimeout,
			})
			if err != nil {
				return nil, fmt.Errorf("region %s: %w", cfg.Entries[i].Region, err)
			}
			clients[i] = append(clients[i], c)
		}
	}
	return clients, nil
}

// generator is one run.
type generator struct {
	cfg      *Config
	clients  [][]*client.Client // by region and company
	fail     context.CancelCauseFunc
	arrivals []arrival
	slots    chan struct{} // holds one element for each punch in flight
	tally    *tally
}

// send starts every arrival when it is due and waits for all answers.
func (g *generator) send(ctx context.Context) {
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	for _, a := range g.arrivals {
		intended := g.tally.begin.Add(a.at)
		if !g.sleepUntil(ctx, intended) {
			return
		}
		select {
		case g.slots <- struct{}{}:
		default: // waiting here would delay the next arrivals: a closed model
			g.tally.drop()
			continue
		}
		inFlight.Go(func() {
			defer func() { <-g.slots }()
			g.punch(ctx, a, intended)
		})
	}
}

// sleepUntil reports whether t came before ctx ended and before Stop was closed.
func (g *generator) sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-g.cfg.Stop:
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// punch sends one arrival, and sends it again if planned.
func (g *generator) punch(ctx context.Context, a arrival, intended time.Time) {
	claim := punch.Request{
		Company: g.cfg.Companies[a.company].ID, Employee: fmt.Sprintf("e%06d", a.employee),
		ID: punch.IDAt(intended), Kind: a.kind, Source: a.source, Note: a.note,
	}
	if a.behind >= 0 {
		claim.At = punch.Microseconds(intended.Add(-a.behind))
	}
	began := time.Now()
	receipt, err := g.request(ctx, a.entry, a.company, intended, claim)
	g.settled(a, intended, began, receipt, err)
	if a.repeat == none || err != nil {
		return
	}
	again, err := g.request(ctx, a.repeat, a.company, time.Now(), claim)
	g.tally.repeated(receipt.Receipt, again.Receipt, err)
}

func (g *generator) settled(a arrival, intended, began time.Time, receipt client.Receipt, err error) {
	now := time.Now()
	g.tally.settled(a.entry, intended, began, now, receipt, err)
	if g.cfg.Observe == nil {
		return
	}
	g.cfg.Observe(Outcome{
		Home: g.cfg.Companies[a.company].Home, Entry: g.cfg.Entries[a.entry].Region,
		Due: intended, Settled: now, Received: receipt.ReceivedAt, Attempts: attempts(receipt, err), Err: err,
	})
}

// request sends a claim through a region, with the journal's lines around it.
func (g *generator) request(ctx context.Context, entry, company int, intended time.Time, claim punch.Request) (client.Receipt, error) {
	var seq uint64
	var err error
	if g.cfg.Journal != nil {
		if seq, err = g.cfg.Journal.Intend(intended, g.cfg.Entries[entry].Region, claim); err != nil {
			g.fail(err)
			return client.Receipt{}, err
		}
	}
	receipt, err := g.clients[entry][company].Punch(ctx, client.Request{
		ID: claim.ID, Employee: claim.Employee, Kind: claim.Kind, At: claim.At, Source: claim.Source, Note: claim.Note,
	})
	if g.cfg.Journal != nil {
		if lost := g.cfg.Journal.Settle(seq, receipt.Receipt, err); lost != nil {
			g.fail(lost)
		}
	}
	return receipt, err
}
