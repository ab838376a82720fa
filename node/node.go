// Package node is one Punchclock node. It constructs the parts, starts them in the order of need, and stops them in
// the opposite order. The behaviour is in the parts: this package only wires them.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/node/controls"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/dispatch"
	"github.com/punchclock/punchclock/node/health"
	"github.com/punchclock/punchclock/node/httpapi"
	"github.com/punchclock/punchclock/node/peer"
	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip"
	"github.com/punchclock/punchclock/tracing"
)

// Version is the release. The linker sets it.
var Version = "dev"

// Deps is what a node takes from its process.
type Deps struct {
	Log *slog.Logger
	// Clock stamps punches and is compared with the database's clock. It is time.Now, except in a drill of a wrong clock.
	Clock func() time.Time
}

// Node is one node. New makes it, and Run runs it once.
type Node struct {
	cfg   config.Node
	log   *slog.Logger
	clock func() time.Time
	self  region.Member

	// What exists from New on.
	monitor     *health.Monitor
	cluster     *region.Cluster
	switches    region.Switches
	gate        *admission.Valve // lets requests in
	levels      *admission.Levels
	connections *connections // to the public listener
	closer      closer
	failed      chan error // a listener that ended by itself

	// The parts, in the order of their start.
	telemetry *tracing.Telemetry
	certs     certificates
	db        *crdb.DB
	regions   *knownRegions
	directory *region.Directory
	verifier  *auth.Verifier
	peers     *peer.Client
	dispatch  *dispatch.Dispatch
	gossip    *gossip.Gossip
	controls  *controls.Controls
	watcher   *health.Watcher
	api       *httpapi.API

	publicAddr string // the address that the public listener is bound to
}

const (
	// overloadInterval is how long a wait must stand. A burst of a whole shift at one gate is over in less.
	overloadInterval = 100 * time.Millisecond
	// leastRate is how many requests a second a node takes in any overload. They need about a tenth of a core.
	leastRate = 250
)

// New checks the settings and names the node. It starts nothing.
func New(cfg config.Node, deps Deps) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	home, err := region.ParseName(cfg.Region)
	if err != nil {
		return nil, fmt.Errorf("--region: %w", err)
	}
	gate, err := admission.New(admission.Config{Target: cfg.Overload.Wait, Interval: overloadInterval, MinRate: leastRate},
		admission.Deps{Wait: admission.SchedulingWait(), Clock: time.Now})
	if err != nil {
		return nil, err
	}
	// A refused connection saves a TLS handshake. Without TLS it costs no more than an answer with Retry-After, and a load
	// balancer would take the reset for a node that is down.
	admitConnection := gate.EnterConnection
	if cfg.Public.CertFile == "" {
		admitConnection = nil
	}
	name := gossip.NodeName(cfg.Region, cfg.Name)
	log := deps.Log.With("node", name, "region", cfg.Region)
	n := &Node{
		cfg: cfg, log: log, clock: deps.Clock, monitor: health.NewMonitor(log), cluster: new(region.Cluster),
		gate: gate, connections: newConnections(cfg.Public.MaxConnections, admitConnection),
		self: region.Member{ // PeerAddr follows once the peer listener is bound
			Node: name, Region: home, PublicURL: cfg.Public.URL, PublicAddrs: publicAddrs(cfg.Public.Addresses), Weight: cfg.Weight,
		},
		failed: make(chan error, 3), // one for each listener
	}
	n.levels, err = admission.NewLevels(admission.LevelsDeps{
		Manual: func() uint8 { return n.switches.Level(region.Degradation, home, n.clock()) },
		Valve:  gate.State, Target: cfg.Overload.Wait, Clock: time.Now,
	})
	return n, err
}

// Run starts the node, serves until ctx ends or a part fails, and shuts down: it announces that it leaves, finishes
// the requests that it accepted, and returns within the shutdown timeout. It returns nil if no request was abandoned.
func (n *Node) Run(ctx context.Context) error {
	err := n.start(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-n.failed:
		}
	}
	if ctx.Err() != nil {
		err = nil // the process was told to stop: how the start failed then does not matter
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.ShutdownTimeout)
	defer cancel()
	return errors.Join(err, n.shutdown(stop))
}

// start starts the parts. Each step registers how its part is closed right after the part has started.
func (n *Node) start(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"telemetry", n.startTelemetry},
		{"certificates", n.startCertificates},
		{"operations listener", n.startOps},
		{"database", n.startDatabase},
		{"company directory", n.startDirectory},
		{"--token-jwks", n.startTokens},
		{"dispatch", n.startDispatch},
		{"peer listener", n.startPeers},
		{"gossip", n.startGossip},
		{"controls", n.startControls},
		// Before the public listener: a node with a wrong clock must know it before it judges a device's clock.
		{"clock", n.startWatcher},
		// After gossip, which knows the peers, and before anyone is told that this node is ready.
		{"warm-up", n.warmUp},
		{"DNS", n.startDNS},
		{"public listener", n.startPublic},
	} {
		n.monitor.Set(health.Starting, "starting: "+step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	n.monitor.Set(health.Starting, "")
	n.log.InfoContext(ctx, "started", "public", n.publicAddr, "engine", string(n.db.Engine), "companies", n.directory.Len())
	return nil
}
