package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/punch"
)

// reference sends a load with reference clients, each punch in a goroutine of its own. It shows what devices
// experience.
type reference struct {
	*generator
	transport *http.Transport
	clients   [][]*client.Client // by region and company
	slots     chan struct{}      // holds one element for each punch in flight
}

func newReference(g *generator) (*reference, error) {
	transport := newTransport(g.cfg)
	clients, err := newClients(g.cfg, transport)
	if err != nil {
		return nil, err
	}
	return &reference{generator: g, transport: transport, clients: clients, slots: make(chan struct{}, g.cfg.Load.MaxInFlight)}, nil
}

// newTransport returns the transport of all clients. It keeps a connection for each punch in flight, so that the load
// does not measure its own connecting.
func newTransport(cfg *Config) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: cfg.Roots},
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: cfg.Load.MaxInFlight,
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
				// Each punch comes from a device of its own, and each device has a budget of its own.
				Budget: client.Budget{Reserve: float64(cfg.Load.MaxInFlight), Every: time.Millisecond},
			})
			if err != nil {
				return nil, fmt.Errorf("region %s: %w", cfg.Entries[i].Region, err)
			}
			clients[i] = append(clients[i], c)
		}
	}
	return clients, nil
}

// send starts every arrival when it is due and waits for all answers.
func (r *reference) send(ctx context.Context) {
	defer r.transport.CloseIdleConnections()
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	for i := range r.arrivals {
		a := &r.arrivals[i]
		intended := r.tally.begin.Add(a.at)
		if !r.sleepUntil(ctx, intended) {
			return
		}
		select {
		case r.slots <- struct{}{}:
		default: // waiting here would delay the next arrivals: a closed model
			r.tally.drop()
			continue
		}
		inFlight.Go(func() {
			defer func() { <-r.slots }()
			r.punch(ctx, a, intended)
		})
	}
}

// sleepUntil reports whether t came before ctx ended and before Stop was closed.
func (r *reference) sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.cfg.Stop:
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// punch sends one arrival, and sends it again if planned.
func (r *reference) punch(ctx context.Context, a *arrival, intended time.Time) {
	claim := a.request(r.cfg.Companies[a.company].ID, intended)
	began := time.Now()
	receipt, err := r.request(ctx, int(a.entry), int(a.company), intended, claim)
	r.settled(a, intended, began, receipt, err)
	if a.repeat == none || err != nil {
		return
	}
	again, err := r.request(ctx, int(a.repeat), int(a.company), time.Now(), claim)
	r.tally.repeated(receipt.Receipt, again.Receipt, err)
}

func (r *reference) settled(a *arrival, intended, began time.Time, receipt client.Receipt, err error) {
	s := &settled{
		arrival: a, due: intended, ended: time.Now(), attempts: attempts(receipt, err), err: err,
		crossed: err == nil && receipt.EntryRegion != receipt.HomeRegion,
	}
	r.tally.press(&press{
		company: int(a.company), due: intended, sent: began, ended: s.ended, acknowledge: err == nil, status: statusOf(err),
	})
	r.tally.settled(s)
	r.observe(s, receipt.ReceivedAt)
}

// request sends a claim through a region, with the journal's lines around it.
func (r *reference) request(ctx context.Context, entry, company int, intended time.Time, claim punch.Request) (client.Receipt, error) {
	var seq uint64
	var err error
	if r.cfg.Journal != nil {
		if seq, err = r.cfg.Journal.Intend(intended, r.cfg.Entries[entry].Region, claim); err != nil {
			r.fail(err)
			return client.Receipt{}, err
		}
	}
	receipt, err := r.clients[entry][company].Punch(ctx, requestOf(&claim))
	if r.cfg.Journal != nil {
		if lost := r.cfg.Journal.Settle(seq, receipt.Receipt, err); lost != nil {
			r.fail(lost)
		}
	}
	return receipt, err
}

func requestOf(claim *punch.Request) client.Request {
	return client.Request{
		ID: claim.ID, Employee: claim.Employee, Kind: claim.Kind, At: claim.At, Source: claim.Source, Note: claim.Note,
	}
}
