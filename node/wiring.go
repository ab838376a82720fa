package node

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/batcher"
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
	handler, err := adminapi.New(adminapi.Config{
		Node: n.self.Node, Region: string(n.self.Region), Version: Version,
	}, adminapi.Deps{
		NotReady: n.monitor.NotReady, Metrics: n.telemetry.MetricsHandler, Operator: n.operator, Status: n.status,
		Set: n.set, Keyrings: n.keyrings, Log: n.log, Clock: n.clock,
	})
	if err != nil {
		return err
	}
	// There is no write timeout: a profile takes as long as its caller asks for.
	_, err = n.serve(ctx, "operations", n.cfg.Ops.Addr, &http.Server{
		Handler: handler, TLSConfig: n.opsServer(), ReadHeaderTimeout: headerTimeout,
		IdleTimeout: 2 * time.Minute, // scrapers come every few seconds
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
	if err := n.startRegions(ctx); err != nil {
		return err
	}
	return n.openHealth()
}

// openHealth makes the controls and the watcher. Both start later, but gossip reports to them before.
func (n *Node) openHealth() (err error) {
	n.controls, err = controls.New(controls.DefaultConfig(n.self.Region), controls.Deps{
		Store: n.db, Known: &n.switches, Monitor: n.monitor, Members: n.members, Log: n.log, Clock: n.clock,
		Broadcast: func(s region.Switch) { n.gossip.BroadcastSwitch(s) },
	})
	if err != nil {
		return err
	}
	n.watcher, err = health.New(health.DefaultConfig(n.self.Node), health.Deps{
		Monitor: n.monitor, Database: n.db, Members: n.members, Log: n.log, Clock: n.clock,
	})
	return err
}

func (n *Node) startRegions(ctx context.Context) error {
	n.regions = &knownRegions{read: n.db.Regions, log: n.log}
	known, err := n.regions.refresh(ctx)
	if err == nil && !slices.Contains(known, n.self.Region) {
		err = fmt.Errorf("--region: the database has no region %s, its regions are %v", n.self.Region, known)
	}
	if err != nil {
		return err
	}
	n.goUntilClosed(ctx, "list of regions", n.regions.keepFresh)
	return nil
}

// goUntilClosed runs a loop until the node is closed.
func (n *Node) goUntilClosed(ctx context.Context, name string, loop func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		loop(ctx)
	}()
	n.closer.add(name, 0, func(context.Context) error {
		cancel()
		<-done
		return nil
	})
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
	return n.db.Homes(ctx, cfg.Capacity, n.directory.Put)
}

func (n *Node) startTokens(ctx context.Context) (err error) {
	n.verifier, err = auth.New(auth.Config{
		JWKS: n.cfg.Tokens.JWKS, Issuer: n.cfg.Tokens.Issuer, Audience: n.cfg.Tokens.Audience,
		EmployeeClaim: n.cfg.Tokens.EmployeeClaim, CacheFile: n.cfg.Tokens.CacheFile, Development: n.cfg.Development,
	}, auth.Deps{Log: n.log, Meter: n.telemetry.MeterProvider, Clock: n.clock})
	if err != nil {
		return err
	}
	n.closer.add("tokens", 0, func(context.Context) error { n.verifier.Close(); return nil })
	return n.verifier.Start(ctx)
}

// startDispatch joins directory, router, batchers, writer and peers: the way of a punch through this node.
func (n *Node) startDispatch(context.Context) (err error) {
	n.peers = peer.NewClient(n.peerClient())
	n.closer.add("peer client", 0, func(context.Context) error { n.peers.Close(); return nil })
	if err := n.observePeers(); err != nil {
		return err
	}
	rates, err := admission.NewRates(admission.RatesConfig{
		EmployeeBurst: n.cfg.Employee.Burst, EmployeeInterval: n.cfg.Employee.Interval,
	})
	if err != nil {
		return err
	}
	n.dispatch, err = dispatch.New(dispatch.Config{
		MaxFutureSkew: n.cfg.MaxFutureSkew, CallTimeout: n.cfg.PunchTimeout / 3,
		Capacity: uint32(n.cfg.Queue.MaxItems),
	}, dispatch.Deps{
		Directory: n.directory, Router: region.NewRouter(n.self, n.cluster, &n.switches), Store: n.db,
		Peers: n.peers, Rates: rates, Present: n.present,
		OpenLocal: func(ctx context.Context, home region.Name) (dispatch.Batcher, error) {
			if err := n.regions.check(ctx, home); err != nil {
				return nil, err
			}
			return n.openBatcher(home, n.db.Writer(string(home)), "database", n.cfg.DB.ConnectionsPerHome,
				tracing.BatchSpec{Name: "batch.write", Kind: trace.SpanKindInternal, Item: "punch.commit", ItemKind: trace.SpanKindInternal})
		},
		OpenRemote: func(home region.Name, w dispatch.Writer) (dispatch.Batcher, error) {
			return n.openBatcher(home, w, "peer", n.cfg.Peer.MaxCalls,
				tracing.BatchSpec{Name: "batch.forward", Kind: trace.SpanKindInternal, Item: "peer.call", ItemKind: trace.SpanKindClient})
		},
		Tracer: n.telemetry.TracerProvider, Meter: n.telemetry.MeterProvider, Log: n.log,
	})
	if err == nil {
		n.closer.add("batchers", reserveForDatabase, n.dispatch.Close)
	}
	return err
}

func (n *Node) members() []region.Member { return n.cluster.Snapshot().Members() }

func (n *Node) present(node string) bool {
	return slices.ContainsFunc(n.members(), func(m region.Member) bool { return m.Node == node })
}

func (n *Node) openBatcher(home region.Name, w dispatch.Writer, kind string, maxWrites int, spans tracing.BatchSpec) (dispatch.Batcher, error) {
	return batcher.New(batcher.Config{
		Home: string(home), Kind: kind, MaxItems: n.cfg.Queue.MaxItems, MaxBytes: n.cfg.Queue.MaxBytes,
		MaxBatchItems: n.cfg.Batch.MaxItems, MaxWrites: maxWrites, MaxWait: n.cfg.Queue.MaxWait, Spans: spans,
	}, batcher.Deps{Writer: w, Log: n.log, Tracer: n.telemetry.TracerProvider, Meter: n.telemetry.MeterProvider})
}

func (n *Node) startPeers(ctx context.Context) error {
	addr, err := n.serve(ctx, "peer", n.cfg.Peer.Addr, n.peerServer())
	if err == nil {
		n.self.PeerAddr = cmp.Or(n.cfg.Peer.Advertise, addr.String())
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
		Cluster: n.cluster, Log: n.log, Meter: n.telemetry.MeterProvider.Meter("punchclock/gossip"),
		Load: n.load, Keys: again,
		Switches: n.switches.All, MergeSwitch: n.controls.Merge,
	})
	if err != nil {
		return err
	}
	n.closer.add("gossip", reserveForBatchers, func(ctx context.Context) error {
		if err := n.gossip.Leave(ctx); err != nil { // peers that leave at the same time do not confirm
			n.log.InfoContext(ctx, "no peer confirmed that this node leaves; peers will notice", "error", err)
		}
		return n.gossip.Close()
	})
	n.monitor.OnChange(n.gossip.SetState)
	return n.gossip.Start(ctx)
}

func (n *Node) startControls(ctx context.Context) error {
	n.closer.add("controls", reserveForGossip, func(context.Context) error { n.controls.Close(); return nil })
	return n.controls.Start(ctx)
}

func (n *Node) startWatcher(ctx context.Context) error {
	n.closer.add("health watcher", reserveForGossip, func(context.Context) error { n.watcher.Close(); return nil })
	return n.watcher.Start(ctx)
}

func (n *Node) startPublic(ctx context.Context) error {
	api, err := httpapi.New(httpapi.Config{
		Node: n.self.Node, Region: n.self.Region, PunchTimeout: n.cfg.PunchTimeout, MaxBody: n.cfg.Public.MaxBody,
	}, httpapi.Deps{
		Gate: n.gate, Levels: n.levels, Waited: waited, Recorder: n.dispatch, Reader: dispatch.Reads{Directory: n.directory, Store: n.db}, Auth: n.verifier, Cluster: n.cluster,
		Ready: n.monitor.Ready, Draining: n.monitor.Leaving, ClockWrong: func() bool { return n.monitor.Has(health.WrongClock) },
		Clock: n.clock, Log: n.log, Tracer: n.telemetry.TracerProvider, Meter: n.telemetry.MeterProvider,
	})
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           api,
		ConnContext:       withSocket,
		TLSConfig:         n.publicServer(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       30 * time.Second,                    // 1 MiB on a slow mobile network
		WriteTimeout:      30*time.Second + n.cfg.PunchTimeout, // counted from the end of the headers, so it includes the read
		IdleTimeout:       2 * time.Minute,                     // devices come back within the rush, balancers close after a minute or so
		MaxHeaderBytes:    16 << 10,                            // a token is about 1 kB
	}
	addr, err := n.serveConnections(ctx, "public", n.cfg.Public.Addr, server, n.connections)
	if err == nil {
		n.api, n.publicAddr = api, addr.String()
	}
	return err
}

// load is what this node tells its peers once a second.
func (n *Node) load() region.Load {
	load := n.dispatch.Load()
	load.DatabaseAway, load.HomeStuck = n.watcher.DatabaseAway(), slices.Contains(n.stuckHomes(), n.self.Region)
	load.Level = n.levels.Level() // this question each second moves the level of a node that no one asks
	return load
}
