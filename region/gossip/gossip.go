package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/region"
)

// Gossip is this node's place in the pool. It is safe for concurrent use.
type Gossip struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	roster  *roster
	news    *newsroom
	loads   *outbox
	pace    pace

	update  chan struct{} // holds a token while a state waits to be published
	met     chan struct{} // closed once another node is known
	metOnce sync.Once

	life    sync.Mutex // guards started and closed, and orders Start, Leave and Close
	started bool
	closed  bool
	// Set by Start, not changed after.
	list         *memberlist.Memberlist
	addr         string              // where this node gossips, as others know it
	ring         *memberlist.Keyring // nil without keys
	registration metric.Registration
	stopLoops    context.CancelFunc
	stopDials    context.CancelFunc
	loops        sync.WaitGroup

	keys [][]byte // those of ring; keyLoop's own once that runs

	gate sync.RWMutex // held for reading by memberlist's callbacks; guards shut
	shut bool         // callbacks do nothing any more
}

// New checks the configuration, and shows this node alone on the board.
func New(cfg Config, deps Deps) (*Gossip, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := deps.validate(); err != nil {
		return nil, err
	}
	if deps.Keys != nil && len(cfg.Keys) == 0 {
		return nil, errNoKeys
	}
	metrics, err := newMetrics(deps.Meter)
	if err != nil {
		return nil, fmt.Errorf("gossip: metrics: %w", err)
	}
	g := &Gossip{
		cfg: cfg, deps: deps, log: deps.Log, metrics: metrics, pace: defaultPace(),
		roster: newRoster(cfg.Self, deps.Cluster),
		update: make(chan struct{}, 1), met: make(chan struct{}), keys: cfg.Keys,
	}
	numNodes := func() int { return g.roster.others() + 1 }
	g.news = newNewsroom(numNodes)
	g.loads = newOutbox(numNodes, loadRetransmitMult, queueLoads)
	g.roster.setSelfKeys(fingerprints(g.keys))
	return g, nil
}

// Start binds the address and begins to gossip. Then it waits for the first
// other node if there are seeds beside this node itself: 10 s at most, or until
// ctx ends. That nobody answers is no error; joining goes on in the background.
func (g *Gossip) Start(ctx context.Context) error {
	if err := g.begin(ctx); err != nil {
		return err
	}
	if len(g.cfg.Seeds) == 0 {
		return nil
	}
	timer := time.NewTimer(g.pace.firstJoin)
	defer timer.Stop()
	select {
	case <-g.met:
	case <-timer.C:
		g.log.Warn("no other node has answered yet", "waited", g.pace.firstJoin)
	case <-ctx.Done():
	}
	return nil
}

func (g *Gossip) begin(ctx context.Context) error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.started || g.closed {
		return errors.New("gossip: Start may be called once, and not after Close")
	}
	bind, err := bindAddr(g.cfg.Addr)
	if err != nil {
		return err
	}
	advertise, err := advertised(ctx, g.cfg.Advertise, bind)
	if err != nil {
		return err
	}
	dials, stopDials := context.WithCancel(context.Background())
	logger := newLineLogger(g.log)
	transport, err := listen(dials, bind, logger)
	if err != nil {
		stopDials()
		return err
	}
	c, err := memberlistConfig(g.cfg, g.pace.wrap(transport))
	if err == nil {
		c.Logger, c.Delegate, c.Events = logger, delegate{g}, delegate{g}
		if advertise.IsValid() {
			c.AdvertiseAddr, c.AdvertisePort = advertise.Addr().String(), int(advertise.Port())
		}
		g.pace.tune(c)
		g.ring = c.Keyring
		g.list, err = memberlist.Create(c)
	}
	if err != nil {
		stopDials()
		_ = transport.Shutdown() // it always returns nil, and may be called twice
		return fmt.Errorf("gossip: %w", err)
	}
	g.stopDials, g.addr = stopDials, g.list.LocalNode().Address()
	if g.registration, err = g.metrics.observe(g.deps.Cluster, g.list.GetHealthScore, g.Keyrings); err != nil {
		stopDials()
		_ = g.list.Shutdown() // as above
		return fmt.Errorf("gossip: metrics: %w", err)
	}
	g.sayKeys(g.keys)
	g.runLoops()
	g.started = true
	return nil
}

func (g *Gossip) runLoops() {
	ctx, cancel := context.WithCancel(context.Background())
	g.stopLoops = cancel
	for _, loop := range []func(context.Context){g.joinLoop, g.updateLoop, g.loadLoop, g.viewLoop, g.keyLoop} {
		g.loops.Go(func() { loop(ctx) })
	}
}

// Addr returns the host:port that other nodes gossip to. It is not known before
// Start has returned.
func (g *Gossip) Addr() string { return g.addr }

// SetState makes s this node's state: on its own board at once, on the others'
// within a second or so. It does not wait for that.
func (g *Gossip) SetState(s region.State) {
	if !g.roster.setState(s) {
		return
	}
	select {
	case g.update <- struct{}{}:
	default: // the update that waits will carry it
	}
}

// BroadcastCompany tells the other nodes that a company has a new version,
// which is more than 0. It is no error that nobody hears of it: their
// directories read every entry anew after a while.
func (g *Gossip) BroadcastCompany(company string, version int64) {
	n := companyNews{company: company, version: version}
	if !n.valid() {
		g.log.Error("company change not sent", "company", company, "version", version)
		return
	}
	isNew, dropped := g.news.publish(n)
	if isNew {
		g.metrics.company(companySent, 1)
	}
	g.metrics.company(companyDropped, dropped)
}

// heard takes a company change from another node and passes it on.
func (g *Gossip) heard(n companyNews) {
	n.hops++
	isNew, dropped := g.news.publish(n)
	g.metrics.company(companyDropped, dropped)
	if !isNew {
		return
	}
	g.metrics.company(companyReceived, 1)
	if g.deps.CompanyChanged != nil {
		g.deps.CompanyChanged(n.company, n.version)
	}
}

// BroadcastEvacuation sends an operator's switch, which this node knows already, to the other nodes. Its version must
// be more than 0.
func (g *Gossip) BroadcastEvacuation(e region.Evacuation) {
	n := switchNews{Evacuation: e}
	if !n.valid() {
		g.log.Error("evacuation switch not sent: its region or version is not valid", "target", string(e.Region), "version", e.Version)
		return
	}
	g.passOn(n)
}

func (g *Gossip) passOn(n switchNews) {
	dropped := g.news.outbox.put(n.key(), n.encode())
	g.metrics.company(companyDropped, dropped)
}

// receiveEvacuation merges a switch of another node. What is news goes on to all nodes: Merge never forgets, so a
// switch passes through each node once, and of two with the same version all nodes keep the same one.
func (g *Gossip) receiveEvacuation(e region.Evacuation) {
	if g.deps.MergeEvacuation(e) {
		g.passOn(switchNews{Evacuation: e})
	}
}

// Leave tells the others that this node goes, so that they need not find out.
// It waits 2 s at most, or until ctx ends. Close is still needed.
func (g *Gossip) Leave(ctx context.Context) error {
	g.life.Lock()
	defer g.life.Unlock()
	if !g.started || g.closed {
		return nil
	}
	g.stopLoops() // no update may follow
	timeout := leaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	// memberlist takes 0 for no time-out at all.
	if err := g.list.Leave(max(timeout, time.Millisecond)); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

// Close stops gossiping without a word, and waits for all that Start began. It
// may be called twice, and before Start.
func (g *Gossip) Close() error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.closed || !g.started {
		g.closed = true
		return nil
	}
	g.closed = true
	g.stopLoops()
	g.stopDials()
	g.loops.Wait()
	err := errors.Join(g.list.Shutdown(), g.registration.Unregister())
	g.gate.Lock()
	g.shut = true
	g.gate.Unlock()
	return err
}

// enter begins a callback of memberlist's, unless the Gossip is closed: some
// of its goroutines live on for a moment. exit ends it.
func (g *Gossip) enter() bool {
	g.gate.RLock()
	if g.shut {
		g.gate.RUnlock()
		return false
	}
	return true
}

func (g *Gossip) exit() { g.gate.RUnlock() }

// meet ends the wait of Start.
func (g *Gossip) meet() { g.metOnce.Do(func() { close(g.met) }) }

// updateLoop publishes this node's state. memberlist blocks until an update
// has been sent, so those that come meanwhile become one.
func (g *Gossip) updateLoop(ctx context.Context) {
	for {
		select {
		case <-g.update:
		case <-ctx.Done():
			return
		}
		if err := g.list.UpdateNode(updateTimeout); err != nil {
			g.log.Debug("state not sent to all", "error", err)
		}
	}
}

// loadLoop sends this node's load.
func (g *Gossip) loadLoop(ctx context.Context) {
	if g.deps.Load == nil {
		return
	}
	ticker := time.NewTicker(g.pace.load)
	defer ticker.Stop()
	for {
		g.sendLoad(g.roster.setSelfLoad(g.deps.Load()))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// viewLoop shows loads, many at a time.
func (g *Gossip) viewLoop(ctx context.Context) {
	for {
		select {
		case <-g.roster.dirty:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(g.pace.view):
		case <-ctx.Done():
			return
		}
		g.roster.showLoads()
	}
}
