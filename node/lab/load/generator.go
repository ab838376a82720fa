// Package load generates a morning: an open-model load that sends each punch
// when it is due, however slow the answers to others are, and measures from
// that moment. A stall so shows in every punch that it delayed (what is called
// coordinated omission cannot happen). It judges speed and answers; whether the
// answers are true is for node/lab/drill.
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

// Journal keeps the evidence of a run. Intend comes before each request and
// must have kept it when it returns; Settle comes after its outcome. Their
// errors end the run, since it could no longer be judged.
type Journal interface {
	Intend(intended time.Time, entryRegion string, claim punch.Request) (seq uint64, err error)
	Settle(seq uint64, receipt punch.Receipt, err error) error
}

// Outcome is what became of one punch, without its planned repeats.
type Outcome struct {
	Home     string
	Entry    string    // region whose endpoints were tried first
	Due      time.Time // when it was meant to be sent
	Settled  time.Time // when its receipt or its last error came
	Attempts int
	Err      error // nil when it was acknowledged
}

// Config is a rush. Only Load, Entries and Companies are needed.
type Config struct {
	Load      Load
	Entries   []cluster.Entry
	Companies []cluster.Company
	Journal   Journal
	// Observe is called once for each punch that was sent, by many goroutines
	// at once.
	Observe func(Outcome)
	// Stop ends the arrivals before their time when it is closed; the
	// answers to those on their way are still waited for.
	Stop <-chan struct{}
	// Progress is called about five times a second, and once at the end.
	Progress func(Progress)
}

func (c *Config) validate() error {
	if err := c.Load.validate(); err != nil {
		return err
	}
	if len(c.Entries) == 0 || len(c.Companies) == 0 {
		return errors.New("at least one region and one company are needed")
	}
	for _, e := range c.Entries {
		if len(e.Endpoints) == 0 {
			return fmt.Errorf("region %s: no endpoint", e.Region)
		}
	}
	for _, company := range c.Companies {
		if c.home(company.Home) == none {
			return fmt.Errorf("company %s: its home %q is none of the regions", company.ID, company.Home)
		}
	}
	return nil
}

func (c *Config) home(name string) int {
	return slices.IndexFunc(c.Entries, func(e cluster.Entry) bool { return e.Region == name })
}

// Run sends the whole rush, waits for the last answer and returns what came of
// it. It ends early, with what it has and an error, when ctx ends or the
// journal fails.
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

// newTransport serves all clients: one connection per punch in flight, kept
// for the next, so that the rush does not measure its own dialling.
func newTransport(maxInFlight int) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: maxInFlight,
		IdleConnTimeout:     50 * time.Second,
	}
}

// newClients makes a client for each region and company: the region's own
// endpoints first, beginning with another one for each company, then the
// other regions'.
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

// runner is one run.
type generator struct {
	cfg      *Config
	clients  [][]*client.Client // by region and company
	fail     context.CancelCauseFunc
	arrivals []arrival
	slots    chan struct{} // one in it for each punch in flight
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
		default: // waiting here would move the arrivals after it: a closed model
			g.tally.drop()
			continue
		}
		inFlight.Go(func() {
			defer func() { <-g.slots }()
			g.punch(ctx, a, intended)
		})
	}
}

// sleepUntil reports whether t came before the end of ctx and before Stop.
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

// punch sends one arrival, and again where that was planned.
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
		Due: intended, Settled: now, Attempts: attempts(receipt, err), Err: err,
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
