// Package dispatch decides where each punch is written. It asks the directory for the company's home and hands the punch
// to that home's batcher: towards the database when the home is here, towards a node of the home when it is not. It owns
// the batchers, but neither queues nor writes itself. DESIGN.md says how and why.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/tracing"
)

// Directory knows the homes of companies.
type Directory interface {
	Home(ctx context.Context, company string) (region.Home, error)
	// Refresh asks the database.
	Refresh(ctx context.Context, company string) (region.Home, error)
}

// Router orders the nodes that may take a punch of a home.
type Router interface {
	// Route passes over nodes for which usable is false. The last candidate is always this node.
	Route(home region.Name, usable func(node string) bool) []region.Candidate
	// Local reports whether this node itself is the first candidate.
	Local(home region.Name, usable func(node string) bool) bool
}

// Store answers reads from a given home region, with NotHome when the company's home is another region.
type Store interface {
	Find(ctx context.Context, home string, key punch.Key) (*punch.Stored, error)
	List(ctx context.Context, home string, q punch.Query) ([]punch.Receipt, error)
}

// Batcher carries the punches of one home.
type Batcher interface {
	punch.Recorder
	RecordBatch(items []punch.Item) []punch.Outcome
	Waiting() int
	Open() bool // of its circuit breaker
	Close(ctx context.Context) error
}

// Writer is what a batcher writes to.
type Writer interface {
	Write(ctx context.Context, items []punch.Item) []punch.Outcome
}

// Peers asks a region's node to record a batch. The overhead is the time that the call took beyond the peer's own
// handling of it.
type Peers interface {
	RecordBatch(ctx context.Context, region, addr string, items []punch.Item) (outcomes []punch.Outcome, overhead time.Duration, err error)
}

// Config bounds dispatch.
type Config struct {
	// MaxFutureSkew is how far a punch may lie in the future.
	MaxFutureSkew time.Duration
	// CallTimeout bounds one call to a peer, and the opening of a batcher. With a third of a punch's deadline, two
	// candidates may fail and this node can still write.
	CallTimeout time.Duration
	// Capacity is how many punches this node is meant to hold at most. Peers compare nodes by the share in use.
	Capacity uint32
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.MaxFutureSkew < 0:
		return fmt.Errorf("dispatch: MaxFutureSkew must not be negative, is %s", c.MaxFutureSkew)
	case c.CallTimeout <= 0:
		return fmt.Errorf("dispatch: CallTimeout must be more than 0, is %s", c.CallTimeout)
	case c.Capacity == 0:
		return errors.New("dispatch: Capacity must be more than 0")
	default:
		return nil
	}
}

// Deps are the parts that dispatch joins.
type Deps struct {
	Directory Directory
	Router    Router
	Store     Store
	Peers     Peers
	Rates     Rates // nil: punches may arrive at any rate
	// Present reports whether a node is still a member of the cluster.
	Present func(node string) bool
	// OpenLocal opens the batcher that writes a home's punches to the database. For a region that the database does not
	// have, it fails with NotHome.
	OpenLocal func(ctx context.Context, home region.Name) (Batcher, error)
	// OpenRemote opens the batcher in front of w, which calls nodes of a home.
	OpenRemote func(home region.Name, w Writer) (Batcher, error)
	Log        *slog.Logger
	Meter      metric.MeterProvider
	Tracer     trace.TracerProvider
}

// Dispatch is a punch.Recorder. It is safe for concurrent use.
type Dispatch struct {
	cfg         Config
	deps        Deps
	tracer      trace.Tracer
	metrics     instruments
	local       batchers
	remote      batchers
	breakers    *breakers
	failedCalls rate.Sometimes // limits the log: an outage fails thousands of calls for one cause
	inFlight    atomic.Int64
}

// New makes a Dispatch. Close must be called.
func New(cfg Config, deps Deps) (*Dispatch, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Dispatch{
		cfg: cfg, deps: deps, tracer: deps.Tracer.Tracer("punchclock/dispatch"),
		failedCalls: rate.Sometimes{Interval: time.Second},
	}
	var err error
	if d.metrics, err = newInstruments(deps.Meter); err != nil {
		return nil, err
	}
	d.breakers = newBreakers(deps.Present, func(node string, open bool) {
		deps.Log.Warn("circuit breaker of a peer", "peer", node, "open", open)
	})
	d.local = batchers{timeout: cfg.CallTimeout, open: deps.OpenLocal}
	d.remote = batchers{timeout: cfg.CallTimeout, open: func(_ context.Context, home region.Name) (Batcher, error) {
		return deps.OpenRemote(home, &forwarder{dispatch: d, home: home, retries: new(budget)})
	}}
	return d, d.metrics.observe(d.breakers)
}

// candidates orders the nodes that may take a punch of the home, without the nodes whose circuit breaker is open.
func (d *Dispatch) candidates(home region.Name) []region.Candidate {
	return d.deps.Router.Route(home, d.breakers.usable)
}

// OpenBreakers lists the peers that are not called, or only to probe them.
func (d *Dispatch) OpenBreakers() []string { return d.breakers.open() }

// Load returns how busy this node is.
func (d *Dispatch) Load() region.Load {
	return region.Load{InFlight: uint32(max(d.inFlight.Load(), 0)), Capacity: d.cfg.Capacity}
}

// Record sends the punch to its company's home and returns the receipt. When the home turns out to be another, the
// database is asked for it and the punch is dispatched once more: two dispatches at most.
func (d *Dispatch) Record(ctx context.Context, p punch.Punch) (punch.Receipt, error) {
	d.inFlight.Add(1)
	defer d.inFlight.Add(-1)
	lookup := d.deps.Directory.Home
	for dispatch := 1; ; dispatch++ {
		home, err := lookupWithRetry(ctx, p.Company, lookup)
		if err != nil {
			return punch.Receipt{}, toPunchError(p.Company, err)
		}
		p.Route = routeTo(home, p.PunchedAt())
		var receipt punch.Receipt
		switch lookUp, refusal := d.admit(home, &p, dispatch); {
		case refusal == nil:
			receipt, err = d.send(ctx, p, dispatch)
		case lookUp:
			receipt, err = d.existing(ctx, &p, refusal)
		default:
			err = refusal
		}
		if punch.CodeOf(err) != punch.NotHome {
			return receipt, err
		}
		d.metrics.countStaleHome(ctx, home.Region)
		if dispatch == 2 {
			return punch.Receipt{}, punch.Retryable(punch.Unavailable, time.Second,
				"the company is moving to another region; send the punch again with the same id", err)
		}
		lookup = d.deps.Directory.Refresh
	}
}

// RecordBatch records punches that another node forwarded to this one: through this node's database gateway, never
// through another node.
func (d *Dispatch) RecordBatch(items []punch.Item) []punch.Outcome {
	d.inFlight.Add(int64(len(items)))
	defer d.inFlight.Add(-int64(len(items)))
	outcomes := make([]punch.Outcome, len(items))
	byHome := make(map[string][]int)
	for i := range items {
		byHome[items[i].HomeRegion] = append(byHome[items[i].HomeRegion], i)
	}
	for home, places := range byHome { // a peer's batch has one home; several homes would take turns
		batcher, err := d.local.get(items[places[0]].Ctx, region.Name(home))
		if err != nil {
			for _, i := range places {
				outcomes[i].Err = err
			}
			continue
		}
		scatter(outcomes, places, batcher.RecordBatch(gather(items, places)))
	}
	return outcomes
}

// existing answers a punch that is about to be refused, as ahead or as one too many. A punch that is recorded already gets
// its receipt, whatever this node's clock says now.
func (d *Dispatch) existing(ctx context.Context, p *punch.Punch, refusal error) (punch.Receipt, error) {
	stored, err := d.deps.Store.Find(ctx, p.HomeRegion, p.Key())
	switch {
	case punch.CodeOf(err) == punch.NotFound:
		return punch.Receipt{}, refusal
	case err != nil:
		return punch.Receipt{}, err
	default:
		return stored.Resolve(p)
	}
}

// send hands the punch to the batcher of its home.
func (d *Dispatch) send(ctx context.Context, p punch.Punch, dispatch int) (punch.Receipt, error) {
	home := region.Name(p.HomeRegion)
	_, span := tracing.StartItem(ctx, d.tracer, "dispatch.route", trace.SpanKindInternal)
	local := d.deps.Router.Local(home, d.breakers.usable)
	batchers := &d.remote
	if local {
		batchers = &d.local
	}
	if span.IsRecording() {
		candidate := p.HomeRegion
		if local {
			candidate = p.EntryRegion // this node's
		}
		span.SetAttributes(
			tracing.HomeRegion.String(p.HomeRegion), tracing.EntryRegion.String(p.EntryRegion), tracing.Company.String(p.Company),
			tracing.Epoch.Int64(p.Epoch), tracing.Dispatch.Int(dispatch),
			tracing.CandidateLocal.Bool(local), tracing.CandidateRegion.String(candidate)) // the span peer.call names the node
	}
	d.metrics.countRouted(destination{home, local})
	batcher, err := batchers.get(ctx, home)
	tracing.End(span, err)
	if err != nil {
		return punch.Receipt{}, err
	}
	return batcher.Record(ctx, p)
}

// Close finishes the punches that the batchers hold and gives up when ctx ends. The batchers towards other regions close
// first: the punches that they cannot deliver fall back to this node's own.
func (d *Dispatch) Close(ctx context.Context) error {
	return errors.Join(d.remote.close(ctx), d.local.close(ctx))
}
