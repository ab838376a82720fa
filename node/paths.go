package node

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/punchclock/punchclock/node/batcher"
	"github.com/punchclock/punchclock/node/dispatch"
	"github.com/punchclock/punchclock/node/httpapi"
	"github.com/punchclock/punchclock/node/peer"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/tracing"
)

// startDispatch joins directory, router, lanes, writer and peers: the way of a
// punch through this node.
func (n *Node) startDispatch(context.Context) (err error) {
	n.peers = peer.NewClient(n.peerClient())
	n.closer.add("peer client", 0, func(context.Context) error { n.peers.Close(); return nil })
	n.dispatch, err = dispatch.New(dispatch.Config{
		Region: n.self.Region, ClockSkew: n.cfg.MaxFutureSkew, CallTimeout: n.cfg.PunchTimeout / 3,
		Capacity: uint32(n.cfg.Queue.MaxItems),
	}, dispatch.Deps{
		Directory: n.directory, Router: region.NewRouter(n.self, n.board, &n.switches), Store: n.db, Peers: n.peers, Present: n.present,
		OpenLocal: func(ctx context.Context, home region.Name) (dispatch.Lane, error) {
			if err := n.labels.check(ctx, string(home)); err != nil {
				return nil, err
			}
			return n.openLane(home, n.db.Writer(string(home)), "database", n.cfg.DB.ConnectionsPerHome,
				tracing.Work{Name: "lane.flush", Kind: trace.SpanKindInternal, Item: "punch.commit", ItemKind: trace.SpanKindInternal})
		},
		OpenRemote: func(home region.Name, w dispatch.Writer) (dispatch.Lane, error) {
			return n.openLane(home, w, "peer", n.cfg.Peer.MaxCalls,
				tracing.Work{Name: "lane.call", Kind: trace.SpanKindInternal, Item: "peer.call", ItemKind: trace.SpanKindClient})
		},
		Tracer: n.telemetry.TracerProvider, Meter: n.telemetry.MeterProvider, Log: n.log,
	})
	if err == nil {
		n.closer.add("lanes", reserveForEnd, n.dispatch.Close)
	}
	return err
}

func (n *Node) present(node string) bool {
	return slices.ContainsFunc(n.board.View().Members(), func(m region.Member) bool { return m.Node == node })
}

func (n *Node) openLane(home region.Name, w dispatch.Writer, kind string, flushes int, work tracing.Work) (dispatch.Lane, error) {
	return batcher.New(batcher.Config{
		Home: string(home), Kind: kind, MaxItems: n.cfg.Queue.MaxItems, MaxBytes: n.cfg.Queue.MaxBytes,
		BatchItems: n.cfg.Batch.MaxItems, Flushes: flushes, Work: work,
	}, w, batcher.Deps{Tracer: n.telemetry.TracerProvider, Meter: n.telemetry.MeterProvider})
}

func (n *Node) startPeers(ctx context.Context) error {
	addr, err := n.serve(ctx, "peer", n.cfg.Peer.Addr, n.peerServer())
	if err == nil {
		n.self.PeerAddr = cmp.Or(n.cfg.Peer.Advertise, addr.String())
	}
	return err
}

func (n *Node) startPublic(ctx context.Context) error {
	api, err := httpapi.New(httpapi.Config{
		Node: n.self.Node, Region: n.self.Region, Deadline: n.cfg.PunchTimeout, MaxBody: n.cfg.Public.MaxBody,
	}, httpapi.Deps{
		Recorder: n.dispatch, Reader: dispatch.Reads{Directory: n.directory, Store: n.db}, Auth: n.verifier, Board: n.board,
		Ready:      func() bool { return len(n.ready.notReady()) == 0 },
		Draining:   func() bool { return n.ready.has(topicDrain) || n.ready.has(topicEvacuated) },
		ClockWrong: func() bool { return n.ready.has(topicClock) },
		Clock:      time.Now, Log: n.log, Tracer: n.telemetry.TracerProvider, Meter: n.telemetry.MeterProvider,
	})
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           api,
		TLSConfig:         n.publicServer(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       30 * time.Second,                    // 1 MiB on a slow mobile network
		WriteTimeout:      30*time.Second + n.cfg.PunchTimeout, // counted from the end of the headers, so it holds the read too
		IdleTimeout:       2 * time.Minute,                     // devices come back within the rush, balancers close after a minute or so
		MaxHeaderBytes:    16 << 10,                            // a token is about 1 kB
	}
	addr, err := n.serve(ctx, "public", n.cfg.Public.Addr, server)
	if err == nil {
		n.api, n.publicAddr = api, addr.String()
	}
	return err
}

// labels knows which regions the database has. A region that was added since
// is noticed when the first punch for it comes.
type labels struct {
	read func(ctx context.Context) ([]string, error)

	mu    sync.Mutex // guards known and asked, and is not held while the database is read
	known []string
	asked time.Time
}

// askAgainAfter bounds how often an unknown region makes us ask the database.
const askAgainAfter = time.Second

func (l *labels) check(ctx context.Context, home string) error {
	l.mu.Lock()
	known, due := slices.Contains(l.known, home), time.Since(l.asked) > askAgainAfter
	if due {
		l.asked = time.Now() // whoever comes meanwhile is told what is known
	}
	l.mu.Unlock()
	if known {
		return nil
	}
	if due {
		list, err := l.refresh(ctx)
		if err != nil {
			return err
		}
		known = slices.Contains(list, home)
	}
	if !known { // its companies have left before it went: look again where they are
		return punch.Errorf(punch.NotHome, "the database has no region %s", home)
	}
	return nil
}

func (l *labels) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

// olderThan reports whether the database was last asked so long ago.
func (l *labels) olderThan(age time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.asked) > age
}

func (l *labels) refresh(ctx context.Context) ([]string, error) {
	list, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.asked = list, time.Now()
	return list, nil
}
