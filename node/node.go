// Package node is one Punchclock node: it joins the parts, starts them in
// order and stops them in the opposite one. What happens to a punch is in the
// parts.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/dispatch"
	"github.com/punchclock/punchclock/node/httpapi"
	"github.com/punchclock/punchclock/node/peer"
	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/region/gossip"
	"github.com/punchclock/punchclock/tracing"
)

// Node is one node. New makes it, Run runs it once.
type Node struct {
	cfg  config.Node
	log  *slog.Logger
	self region.Member

	ready  *readiness
	board  *region.Board
	closer closer

	telemetry *tracing.Telemetry
	certs     certificates
	db        *crdb.DB
	labels    labels
	switches  region.Switches
	evacuated sync.Mutex // held while the node says whether its region is
	// switchNews has room for every region's switch at once.
	switchNews chan region.Evacuation
	directory  *region.Directory
	gossip     *gossip.Gossip
	dispatch   *dispatch.Dispatch
	peers      *peer.Client
	verifier   *auth.Verifier
	api        *httpapi.API

	publicAddr string     // where it is bound
	failed     chan error // a listener that ended by itself

	// switchesRead is when the switches were last read from the database.
	switchesRead atomic.Pointer[time.Time]
	databaseAway atomic.Bool
	clockOffset  atomic.Int64 // nanoseconds ahead of the database's clock
}

// Version is the release, set by the linker.
var Version = "dev"

// New checks the settings and names the node. It starts nothing.
func New(cfg config.Node, log *slog.Logger) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	home, err := region.ParseName(cfg.Region)
	if err != nil {
		return nil, fmt.Errorf("--region: %w", err)
	}
	name := gossip.NodeName(cfg.Region, cfg.Name)
	n := &Node{
		cfg: cfg, log: log.With("node", name, "region", cfg.Region), ready: newReadiness(), board: new(region.Board),
		self: region.Member{
			Node: name, Region: home, PublicURL: cfg.Public.URL, PublicAddrs: publicAddrs(cfg.Public.Addresses), Weight: cfg.Weight, // PeerAddr once it is bound
		},
		failed:     make(chan error, 3), // one for each listener
		switchNews: make(chan region.Evacuation, 64),
	}
	return n, nil
}

// Run starts the node, serves until ctx ends or a part fails, and drains: it
// says that it leaves, finishes what it accepted, and returns within the stop
// time-out. It returns nil after a drain in which nothing was given up.
func (n *Node) Run(ctx context.Context) error {
	err := n.start(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-n.failed:
		}
	}
	if ctx.Err() != nil {
		err = nil // asked to stop: what the start then failed with is no news
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.ShutdownTimeout)
	defer cancel()
	return errors.Join(err, n.drain(stop))
}

// start brings the parts up in the order of need. Each registers how it is
// closed right after it came up.
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
		{"switches", n.startSwitches},
		{"DNS", n.startDNS},
		{"clock", n.startWatch}, // before punches are taken: their receive time is evidence
		{"public listener", n.startPublic},
	} {
		n.ready.set(topicStart, "starting: "+step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	n.ready.set(topicStart, "")
	n.tellState()
	n.log.InfoContext(ctx, "ready", "public", n.publicAddr, "engine", string(n.db.Engine), "companies", n.directory.Len())
	return nil
}

func (n *Node) startTelemetry(ctx context.Context) (err error) {
	n.telemetry, err = tracing.Setup(ctx, tracing.Config{
		Service: "punchclock", Version: Version, Node: n.self.Node, Region: string(n.self.Region), Log: n.log,
	})
	if err == nil {
		n.closer.add("telemetry", 0, n.telemetry.Shutdown)
	}
	return err
}

func (n *Node) startOps(ctx context.Context) error {
	handler := adminapi.New(adminapi.Deps{
		NotReady: n.ready.notReady, Metrics: n.telemetry.MetricsHandler,
		About:    map[string]string{"name": n.self.Node, "region": string(n.self.Region), "version": Version},
		Operator: n.operator, Status: n.status, Evacuate: n.evacuate, Keyrings: n.keyrings, Log: n.log,
	})
	// Profiles take as long as they are asked to, so nothing bounds a write.
	_, err := n.serve(ctx, "operations", n.cfg.Ops.Addr, &http.Server{
		Handler: handler, TLSConfig: n.opsServer(), ReadHeaderTimeout: headerTimeout,
		IdleTimeout: 2 * time.Minute, // scrapers come every few seconds, and whoever says nothing goes
	})
	return err
}

func (n *Node) startDatabase(ctx context.Context) error {
	url, err := n.cfg.DB.DatabaseURL()
	if err == nil {
		err = crdb.CheckTransport(url, n.cfg.Insecure)
	}
	if err != nil {
		return err
	}
	n.db, err = crdb.Open(ctx, crdb.Config{
		URL: url, Home: n.cfg.Region, ConnectionsPerHome: n.cfg.DB.ConnectionsPerHome, ReadConnections: n.cfg.DB.ReadConnections,
		ConnectTimeout: n.cfg.DB.ConnectTimeout, AttemptTimeout: n.cfg.PunchTimeout / 3,
	}, crdb.Deps{Log: n.log, Meter: n.telemetry.MeterProvider, Tracer: n.telemetry.TracerProvider})
	if err != nil {
		return err
	}
	n.closer.add("database", 0, func(context.Context) error { n.db.Close(); return nil })
	if err := n.db.CheckSchema(ctx); err != nil {
		return err
	}
	n.labels.read = n.db.Regions
	known, err := n.labels.refresh(ctx)
	if err == nil && !slices.Contains(known, n.cfg.Region) {
		err = fmt.Errorf("--region: the database has no region %s, its regions are %v", n.cfg.Region, known)
	}
	return err
}

func (n *Node) startDirectory(ctx context.Context) (err error) {
	cfg := region.DefaultDirectoryConfig()
	cfg.Capacity, cfg.RefreshAfter = n.cfg.Directory.Capacity, n.cfg.Directory.Refresh
	if n.directory, err = region.NewDirectory(cfg, n.db); err != nil {
		return err
	}
	n.closer.add("company directory", 0, func(context.Context) error { n.directory.Close(); return nil })
	if err := n.observe(); err != nil {
		return err
	}
	return n.db.Homes(ctx, cfg.Capacity, n.directory.Learn)
}

func (n *Node) startTokens(ctx context.Context) (err error) {
	n.verifier, err = auth.New(ctx, auth.Config{
		JWKS: n.cfg.Tokens.JWKS, Issuer: n.cfg.Tokens.Issuer, Audience: n.cfg.Tokens.Audience,
		CacheFile: n.cfg.Tokens.CacheFile, Development: n.cfg.Development,
	}, auth.Deps{Logger: n.log, Meters: n.telemetry.MeterProvider, Clock: time.Now})
	if err == nil {
		n.closer.add("tokens", 0, func(context.Context) error { n.verifier.Close(); return nil })
	}
	return err
}

func (n *Node) startGossip(ctx context.Context) error {
	keys, again, err := n.gossipKeys()
	if err != nil {
		return err
	}
	n.gossip, err = gossip.New(gossip.Config{
		Self: n.self, Addr: n.cfg.Gossip.Addr, Advertise: n.cfg.Gossip.Advertise,
		Seeds: n.cfg.Gossip.Seeds, Label: n.cfg.Deployment, Keys: keys,
	}, gossip.Deps{
		Board: n.board, Log: n.log, Meter: n.telemetry.MeterProvider.Meter("punchclock/gossip"),
		Load: n.load, Keys: again, Switches: n.switches.All, CompanyChanged: n.directory.Changed,
		SwitchChanged: func(e region.Evacuation) {
			select {
			case n.switchNews <- e:
			default: // it is in the database, too
			}
		},
	})
	if err != nil {
		return err
	}
	n.closer.add("gossip", reserveForLanes, func(ctx context.Context) error {
		if err := n.gossip.Leave(ctx); err != nil { // peers that go at the same time do not confirm; they will notice
			n.log.InfoContext(ctx, "left without a confirmation", "error", err)
		}
		return n.gossip.Close()
	})
	return n.gossip.Start(ctx)
}

// inFlight counts the punches of callers that have no answer yet.
func (n *Node) inFlight() int64 {
	if n.api == nil {
		return 0
	}
	return n.api.InFlight()
}

func (n *Node) load() region.Load {
	load := n.dispatch.Load()
	load.DatabaseAway, load.HomeStuck = n.databaseAway.Load(), slices.Contains(n.stuckHomes(), n.self.Region)
	return load
}

// tellState publishes to the peers what readiness says.
func (n *Node) tellState() {
	state := region.Ready
	switch reasons := n.ready.notReady(); {
	case n.ready.has(topicDrain), n.ready.has(topicEvacuated): // finishes what it has, takes no more
		state = region.Draining
	case len(reasons) > 0:
		state = region.Warming
	}
	if n.gossip != nil {
		n.gossip.SetState(state)
	}
}

// headerTimeout bounds how long a client may take to send its headers: a
// second on the worst mobile network, with room.
const headerTimeout = 10 * time.Second

// serve listens and serves until the node is closed, by TLS where the server
// has a configuration for it.
func (n *Node) serve(ctx context.Context, name, addr string, server *http.Server) (net.Addr, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	server.ErrorLog = slog.NewLogLogger(n.log.Handler(), slog.LevelDebug) // what clients do to connections is no warning
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve := server.Serve
		if server.TLSConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") } // the configuration holds the certificate
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			n.failed <- fmt.Errorf("%s listener: %w", name, err)
		}
	}()
	n.closer.add(name+" listener", reserveForAll, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if err != nil {
			// What still runs is a client that never finished its request, or
			// a punch whose caller will retry: InFlight tells which.
			n.log.WarnContext(ctx, "closing connections that did not end", "listener", name, "punches", n.inFlight())
			err = server.Close()
			if n.inFlight() > 0 {
				err = errors.Join(err, errors.New("gave up punches in flight"))
			}
		}
		<-done
		return err
	})
	return listener.Addr(), nil
}
