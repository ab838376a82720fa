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

// Gossip is this node's membership in the cluster. It is safe for concurrent use.
type Gossip struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	members *members
	timings timings

	loads, switches, keys *broadcastQueue
	switching             sync.Mutex // orders the puts to switches

	update     chan struct{} // holds a token while a state waits to be published
	joined     chan struct{} // closed once another node is known
	joinedOnce sync.Once

	life    sync.Mutex // guards started and closed, and orders Start, Leave and Close
	started bool
	closed  bool
	// Start sets the following fields, and nothing changes them after that.
	list         *memberlist.Memberlist
	addr         string              // this node's gossip address, as others know it
	ring         *memberlist.Keyring // nil without keys
	registration metric.Registration
	stopLoops    context.CancelFunc
	stopDials    context.CancelFunc
	loops        sync.WaitGroup

	ownKeys [][]byte // the keys in ring; only keyLoop uses them after Start

	gate sync.RWMutex // callbacks of memberlist hold it for reading; guards shut
	shut bool         // callbacks must return at once
}

// New checks the configuration. The cluster view shows this node alone.
func New(cfg Config, deps Deps) (*Gossip, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
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
		cfg: cfg, deps: deps, log: deps.Log, metrics: metrics, timings: defaultTimings(),
		members: newMembers(cfg.Self, deps.Cluster),
		update:  make(chan struct{}, 1), joined: make(chan struct{}), ownKeys: cfg.Keys,
	}
	numNodes := func() int { return g.members.others() + 1 }
	g.loads = newBroadcastQueue(numNodes, loadRetransmitMult, metrics.drop(droppedLoad))
	g.switches = newBroadcastQueue(numNodes, retransmitMult, metrics.drop(droppedSwitch))
	g.keys = newBroadcastQueue(numNodes, retransmitMult, metrics.drop(droppedKeys))
	return g, nil
}

// Start listens on the address and starts to gossip. If there are seeds other than this node, Start waits for the first
// other node, for at most 10 s and until ctx ends. If none answers, Start returns nil and goes on joining in the
// background.
func (g *Gossip) Start(ctx context.Context) error {
	if err := g.begin(ctx); err != nil {
		return err
	}
	if len(g.cfg.Seeds) == 0 {
		return nil
	}
	timer := time.NewTimer(g.timings.firstJoin)
	defer timer.Stop()
	select {
	case <-g.joined:
	case <-timer.C:
		g.log.Warn("no other node has answered yet", "waited", g.timings.firstJoin)
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
	advertise, err := resolveAdvertise(ctx, g.cfg.Advertise, bind)
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
	c, err := memberlistConfig(g.cfg, g.timings.wrap(transport))
	if err == nil {
		c.Logger, c.Delegate, c.Events = logger, delegate{g}, delegate{g}
		if advertise.IsValid() {
			c.AdvertiseAddr, c.AdvertisePort = advertise.Addr().String(), int(advertise.Port())
		}
		g.timings.tune(c)
		g.ring = c.Keyring
		g.list, err = memberlist.Create(c)
	}
	if err != nil {
		stopDials()
		_ = transport.Shutdown() // always returns nil, and may be called twice
		return fmt.Errorf("gossip: %w", err)
	}
	g.stopDials, g.addr = stopDials, g.list.LocalNode().Address()
	if g.registration, err = g.metrics.observe(g.deps.Cluster, g.list.GetHealthScore, g.Keyrings); err != nil {
		stopDials()
		_ = g.list.Shutdown() // always returns nil, and may be called twice
		return fmt.Errorf("gossip: metrics: %w", err)
	}
	g.broadcastKeys(g.members.setSelfKeys(fingerprints(g.ownKeys)))
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

// Addr returns this node's gossip address, host:port, as other nodes know it. It is empty before Start has returned.
func (g *Gossip) Addr() string { return g.addr }

// SetState changes this node's state. The own view shows it at once, the other nodes' views within about a second.
// SetState does not wait for them.
func (g *Gossip) SetState(s region.State) {
	if !g.members.setState(s) {
		return
	}
	select {
	case g.update <- struct{}{}:
	default: // the update that waits will carry this state
	}
}

// BroadcastSwitch sends the operator's switch s to the other nodes. The caller must have merged s into the switches of
// Deps.Switches. If a newer switch of its kind and region is known by now, BroadcastSwitch sends the newer one.
func (g *Gossip) BroadcastSwitch(s region.Switch) {
	// Two goroutines may have merged two switches of one region. The lock and the second look make sure that the newer
	// switch stays in the queue.
	g.switching.Lock()
	defer g.switching.Unlock()
	for _, newest := range g.deps.Switches() {
		if newest.Kind == s.Kind && newest.Region == s.Region {
			g.switches.put(string([]byte{byte(s.Kind)})+string(s.Region), switchMessage(newest))
		}
	}
}

// receiveSwitch merges a switch of another node and sends it on if it is news. Merging never forgets, so a switch
// passes through each node once. Of two switches with one version all nodes keep the same one.
func (g *Gossip) receiveSwitch(s region.Switch) {
	if g.deps.MergeSwitch(s) {
		g.BroadcastSwitch(s)
	}
}

// Leave announces that this node goes, so that the others do not have to detect it. It takes at most 2 s, and ends with
// ctx. Close must still be called.
func (g *Gossip) Leave(ctx context.Context) error {
	g.life.Lock()
	defer g.life.Unlock()
	if !g.started || g.closed {
		return nil
	}
	g.stopLoops() // no update may follow the announcement
	timeout := leaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	// For memberlist 0 means no timeout.
	if err := g.list.Leave(max(timeout, time.Millisecond)); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

// Close stops without an announcement, and waits for all goroutines of Start. It may be called twice, and before Start.
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

// enter starts a callback of memberlist, and exit ends it. enter returns false after Close, because some goroutines of
// memberlist outlive its Shutdown for a moment.
func (g *Gossip) enter() bool {
	g.gate.RLock()
	if g.shut {
		g.gate.RUnlock()
		return false
	}
	return true
}

func (g *Gossip) exit() { g.gate.RUnlock() }

// markJoined ends the wait of Start.
func (g *Gossip) markJoined() { g.joinedOnce.Do(func() { close(g.joined) }) }

// updateLoop publishes this node's state. memberlist blocks until an update is sent, so several changes become one
// update.
func (g *Gossip) updateLoop(ctx context.Context) {
	for {
		select {
		case <-g.update:
		case <-ctx.Done():
			return
		}
		if err := g.list.UpdateNode(updateTimeout); err != nil {
			g.log.Debug("the state was not sent to all nodes", "error", err)
		}
	}
}

// loadLoop sends this node's load.
func (g *Gossip) loadLoop(ctx context.Context) {
	if g.deps.Load == nil {
		return
	}
	ticker := time.NewTicker(g.timings.load)
	defer ticker.Stop()
	for {
		g.broadcastLoad(g.members.setSelfLoad(g.deps.Load()))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// viewLoop publishes new loads, many of them in one view.
func (g *Gossip) viewLoop(ctx context.Context) {
	for {
		select {
		case <-g.members.dirty:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(g.timings.view):
		case <-ctx.Done():
			return
		}
		g.members.publishLoads()
	}
}
