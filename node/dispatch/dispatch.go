// Package dispatch decides for each punch: here or elsewhere. It asks the
// directory for the company's home, and hands the punch to the lane of that
// home: towards the database when the home is here, towards a node there when
// it is not. It owns the lanes, but neither queues nor writes itself.
package dispatch

import (
	"context"
	"errors"
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

// Directory tells where a company's home is.
type Directory interface {
	Home(ctx context.Context, company string) (region.Home, error)
	Refresh(ctx context.Context, company string) (region.Home, error)
}

// Router orders the nodes that may take a punch of a home.
type Router interface {
	// Route passes over nodes for which usable is false. The last candidate
	// is always this node.
	Route(home region.Name, usable func(node string) bool) []region.Candidate
}

// Store answers reads from a given home region, with NotHome when the company's
// home is another one.
type Store interface {
	Find(ctx context.Context, home string, key punch.Key) (*punch.Stored, error)
	List(ctx context.Context, home string, q punch.Query) ([]punch.Receipt, error)
}

// Lane carries the punches of one home.
type Lane interface {
	punch.Recorder
	RecordAll(items []punch.Item) []punch.Outcome
	Waiting() int
	Open() bool // its circuit
	Close(ctx context.Context) error
}

// Writer is what a lane writes to.
type Writer interface {
	Write(ctx context.Context, items []punch.Item) []punch.Outcome
}

// Caller asks a region's node to record a batch. The overhead is what the call
// took beyond the peer's own handling of it.
type Caller interface {
	Record(ctx context.Context, region, addr string, items []punch.Item) (outcomes []punch.Outcome, overhead time.Duration, err error)
}

// Config bounds what dispatch does.
type Config struct {
	Region region.Name // of this node
	// ClockSkew is how far a punch may lie in the future.
	ClockSkew time.Duration
	// CallTimeout bounds one call to a peer: a third of a punch's deadline,
	// so that two candidates may fail and this node still writes itself.
	CallTimeout time.Duration
	// Capacity is how many punches this node means to hold at most; peers
	// compare nodes by their share of it.
	Capacity uint32
}

// Deps is what dispatch joins.
type Deps struct {
	Directory Directory
	Router    Router
	Store     Store
	Peers     Caller
	// Present reports whether a node is still a member of the cluster.
	Present func(node string) bool
	// OpenLocal opens the lane to the database for a home; it fails for a
	// region that the database does not have.
	OpenLocal func(ctx context.Context, home region.Name) (Lane, error)
	// OpenRemote opens the lane in front of w, which calls nodes of a home.
	OpenRemote func(home region.Name, w Writer) (Lane, error)
	Tracer     trace.TracerProvider
	Meter      metric.MeterProvider
	Log        *slog.Logger
}

// Dispatch is a punch.Recorder. It is safe for concurrent use.
type Dispatch struct {
	cfg      Config
	deps     Deps
	tracer   trace.Tracer
	metrics  instruments
	local    lanes
	remote   lanes
	circuits *circuits
	complain rate.Sometimes // about calls that failed: an outage fails thousands for one cause
	inFlight atomic.Int64
}

// New makes a Dispatch. Close must be called.
func New(cfg Config, deps Deps) (*Dispatch, error) {
	d := &Dispatch{
		cfg: cfg, deps: deps, tracer: deps.Tracer.Tracer("punchclock/dispatch"),
		complain: rate.Sometimes{Interval: time.Second},
	}
	var err error
	if d.metrics, err = newInstruments(deps.Meter); err != nil {
		return nil, err
	}
	d.circuits = newCircuits(deps.Present, func(node string, open bool) {
		deps.Log.Warn("circuit of a peer", "peer", node, "open", open)
	})
	d.local.open = deps.OpenLocal
	d.remote.open = func(_ context.Context, home region.Name) (Lane, error) {
		return deps.OpenRemote(home, &hop{dispatch: d, home: home, retries: new(budget)})
	}
	return d, d.metrics.observe(d.circuits)
}

// route orders the nodes that may take a punch of the home, without those
// whose circuit is open.
func (d *Dispatch) route(home region.Name) []region.Candidate {
	return d.deps.Router.Route(home, d.circuits.usable)
}

// OpenCircuits lists the peers that are not called, or only to probe them.
func (d *Dispatch) OpenCircuits() []string { return d.circuits.open() }

// Load returns how busy this node is.
func (d *Dispatch) Load() region.Load {
	return region.Load{InFlight: uint32(max(d.inFlight.Load(), 0)), Capacity: d.cfg.Capacity}
}

// Record sends the punch to its company's home and returns the receipt. A home
// that turns out to have moved is looked up anew and tried once more: two
// dispatches at most.
func (d *Dispatch) Record(ctx context.Context, p punch.Punch) (punch.Receipt, error) {
	d.inFlight.Add(1)
	defer d.inFlight.Add(-1)
	look := d.deps.Directory.Home
	for dispatch := 1; ; dispatch++ {
		home, err := patiently(ctx, p.Company, look)
		if err != nil {
			return punch.Receipt{}, refusal(p.Company, err)
		}
		p.Route = routeUnder(home, p.PunchedAt())
		var receipt punch.Receipt
		if ahead := p.CheckClock(d.cfg.ClockSkew); ahead != nil {
			receipt, err = d.known(ctx, &p, ahead)
		} else {
			receipt, err = d.send(ctx, p, dispatch)
		}
		if punch.CodeOf(err) != punch.NotHome {
			return receipt, err
		}
		d.metrics.moved(ctx, home.Region)
		if dispatch == 2 {
			return punch.Receipt{}, punch.Retryable(punch.Unavailable, time.Second, "the company is moving to another region; send the punch again with the same id", err)
		}
		look = d.deps.Directory.Refresh
	}
}

// RecordAll settles punches that another node routed here: by the lane to the
// database, never by another hop.
func (d *Dispatch) RecordAll(items []punch.Item) []punch.Outcome {
	d.inFlight.Add(int64(len(items)))
	defer d.inFlight.Add(-int64(len(items)))
	outcomes := make([]punch.Outcome, len(items))
	byHome := make(map[string][]int)
	for i := range items {
		byHome[items[i].HomeRegion] = append(byHome[items[i].HomeRegion], i)
	}
	for home, places := range byHome { // a batch of a peer has one home; were it more, they would take turns
		lane, err := d.local.get(items[places[0]].Ctx, region.Name(home))
		if err != nil {
			for _, i := range places {
				outcomes[i].Err = err
			}
			continue
		}
		scatter(outcomes, places, lane.RecordAll(gather(items, places)))
	}
	return outcomes
}

// patiently looks the home up again while the deadline allows: a company that
// is not in memory must not be refused because one look-up met a failover.
func patiently(ctx context.Context, company string, look func(context.Context, string) (region.Home, error)) (region.Home, error) {
	for {
		home, err := look(ctx, company)
		if err == nil || errors.Is(err, region.ErrUnknownCompany) || errors.Is(err, region.ErrBusy) || errors.Is(err, region.ErrClosed) {
			return home, err
		}
		select {
		case <-ctx.Done():
			return region.Home{}, err
		case <-time.After(lookAgain):
		}
	}
}

// lookAgain is the pause between two look-ups: one has already taken as long as
// the database was given, or failed at once because it is gone.
const lookAgain = 200 * time.Millisecond

func routeUnder(home region.Home, at time.Time) punch.Route {
	_, offset := at.In(home.Zone).Zone()
	return punch.Route{HomeRegion: string(home.Region), Epoch: home.Epoch, Zone: home.Zone.String(), UTCOffset: int32(offset)}
}

func refusal(company string, err error) error {
	switch {
	case errors.Is(err, region.ErrUnknownCompany):
		return punch.Errorf(punch.UnknownCompany, "there is no company %s", company)
	case errors.Is(err, region.ErrBusy):
		return punch.Retryable(punch.Overloaded, time.Second, "the company was unknown a moment ago; ask again", err)
	default:
		return punch.Retryable(punch.Unavailable, time.Second, "the company's home could not be looked up; ask again, a punch with the same id", err)
	}
}

// known answers a punch that is about to be refused: one that is recorded
// already gets its receipt, whatever this node's clock says of it now.
func (d *Dispatch) known(ctx context.Context, p *punch.Punch, refuse error) (punch.Receipt, error) {
	stored, err := d.deps.Store.Find(ctx, p.HomeRegion, p.Key())
	switch {
	case punch.CodeOf(err) == punch.NotFound:
		return punch.Receipt{}, refuse
	case err != nil:
		return punch.Receipt{}, err
	default:
		return stored.Resolve(p)
	}
}

// send hands the punch to the lane of its home.
func (d *Dispatch) send(ctx context.Context, p punch.Punch, dispatch int) (punch.Receipt, error) {
	home := region.Name(p.HomeRegion)
	_, span := tracing.StartItem(ctx, d.tracer, "dispatch.route", trace.SpanKindInternal)
	first := d.route(home)[0]
	set := &d.remote
	if first.Local {
		set = &d.local
	}
	if span.IsRecording() {
		span.SetAttributes(
			tracing.HomeRegion.String(p.HomeRegion), tracing.EntryRegion.String(p.EntryRegion), tracing.Company.String(p.Company),
			tracing.Epoch.Int64(p.Epoch), tracing.Dispatch.Int(dispatch),
			tracing.CandidateLocal.Bool(first.Local), tracing.CandidateRegion.String(string(first.Region))) // which node is the batch's choice: see peer.call
	}
	d.metrics.dispatched(ctx, home, first.Local)
	lane, err := set.get(ctx, home)
	tracing.End(span, err)
	if err != nil {
		return punch.Receipt{}, err
	}
	return lane.Record(ctx, p)
}

// Close finishes what the lanes hold and gives up when ctx ends. The lanes to
// other regions go first: what they cannot deliver falls back to this node.
func (d *Dispatch) Close(ctx context.Context) error {
	return errors.Join(d.remote.close(ctx), d.local.close(ctx))
}
