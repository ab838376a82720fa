package crdb

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"
)

type address struct {
	host string
	port uint16
	tls  *tls.Config
	// What pgx tries on the same host when TLS as above does not do, with
	// sslmode=prefer or allow.
	alternatives []*pgconn.FallbackConfig
}

func (a address) String() string { return net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) }

// addresses returns the hosts of a connection URL in its order. pgx lists a
// host once more for each way to encrypt: these become its alternatives.
func addresses(cc *pgx.ConnConfig) []address {
	list := []address{{host: cc.Host, port: cc.Port, tls: cc.TLSConfig}}
	at := map[string]int{list[0].String(): 0}
	for _, f := range cc.Fallbacks {
		a := address{host: f.Host, port: f.Port, tls: f.TLSConfig}
		if i, seen := at[a.String()]; seen {
			list[i].alternatives = append(list[i].alternatives, f)
			continue
		}
		at[a.String()] = len(list)
		list = append(list, a)
	}
	return list
}

// host is one gateway of the database with pools of its own.
type gateway struct {
	addr        string
	writes      *pgxpool.Pool   // writes punches
	reads       *pgxpool.Pool   // reads punches
	control     *pgxpool.Pool   // everything else
	moves       *pgxpool.Pool   // carries rows from home to home; nil where nothing is moved
	pingConfig  *pgx.ConnConfig // for pings where no connection lies idle: a pool without one is no dead host
	files       *tlsFiles       // asked before every connection
	health      atomic.Int32    // a trouble: what is believed of it
	promptPings int             // pings in a row that were answered promptly; the watcher's
	pingLimit   rate.Sometimes  // pings because of slow attempts

	resets map[*pgxpool.Pool]*rate.Sometimes // of the pools above, complete once they are open
}

func (g *gateway) controlPool() *pgxpool.Pool { return g.control }
func (g *gateway) movesPool() *pgxpool.Pool   { return g.moves }

// trouble is what keeps a host from being used, the lesser the better.
type health int32

const (
	up   health = iota
	slow        // answers, but others answer much sooner
	down        // lost a connection, or did not answer a ping
)

func (t health) String() string { return [...]string{"up", "slow", "down"}[t] }

func newGateway(addr string, files *tlsFiles) *gateway {
	return &gateway{addr: addr, files: files, pingLimit: rate.Sometimes{Interval: probeEvery}, resets: make(map[*pgxpool.Pool]*rate.Sometimes)}
}

// resetPool gives the pool new connections. A change of regions fails the
// statements of all homes at once, and each reset costs all of them their
// connections. One is enough until the change is through everywhere, which takes
// seconds.
func (g *gateway) resetPool(pool *pgxpool.Pool) { g.resets[pool].Do(pool.Reset) }

// hosts chooses the gateway for each attempt: the nearest of those in the least
// trouble. A gray host, one that accepts and never answers, counts as away once
// a ping to it has timed out, and as slow once its pings take long while
// another host's do not.
type gateways struct {
	all []*gateway
	log *slog.Logger

	stop   context.CancelFunc
	wg     sync.WaitGroup
	probes chan *gateway
}

const (
	// A ping may need a new connection: up to six round trips with TLS and a
	// password, each at most about 300 ms between regions.
	pingTimeout = 2 * time.Second
	// How soon a host that came back is used again.
	probeEvery = 2 * time.Second
	// One round trip between the farthest regions is about 300 ms. An attempt
	// that takes longer may be slow by its host or by one home's ranges: a ping
	// tells. A host that takes longer for that is worth a look at the others.
	slowPing = 500 * time.Millisecond
	// A slow host is only slow while it is used, if load is what makes it slow:
	// ten seconds of prompt pings before it is tried again.
	promptPingsNeeded = 5
	// What a statement needs to end, and a connection to say goodbye, where
	// the database answers.
	closeTimeout = 2 * time.Second
)

func (gs *gateways) start() {
	ctx, cancel := context.WithCancel(context.Background())
	gs.stop = cancel
	gs.probes = make(chan *gateway, len(gs.all))
	gs.wg.Go(func() { gs.watch(ctx) })
}

func (gs *gateways) close() {
	if gs.stop != nil {
		gs.stop()
		gs.wg.Wait()
	}
	// pgx waits up to 15 s for a frozen server to take its leave. What is not
	// closed in time ends by itself then, or with the process.
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		var pools sync.WaitGroup
		for _, g := range gs.all {
			for _, pool := range []*pgxpool.Pool{g.writes, g.reads, g.control, g.moves} {
				if pool != nil {
					pools.Go(pool.Close)
				}
			}
		}
		pools.Wait()
	}()
	patience := time.NewTimer(closeTimeout)
	defer patience.Stop()
	select {
	case <-closed:
	case <-patience.C:
		gs.log.Warn("database connections are left to close by themselves")
	}
}

// pick returns the host for the given attempt, counted from 0. Attempts walk
// over the hosts in the least trouble, the nearest first.
func (gs *gateways) pick(attempt int) *gateway {
	best, least := make([]*gateway, 0, 8), down
	for _, g := range gs.all {
		switch t := health(g.health.Load()); {
		case t < least:
			best, least = append(best[:0], g), t
		case t == least:
			best = append(best, g)
		}
	}
	return best[attempt%len(best)]
}

// observe takes in how an attempt through h ended. A lost connection proves the
// host away; silence and slowness may be the fault of one home's ranges only,
// so the host is pinged before other homes are led around it.
func (gs *gateways) observe(g *gateway, why cause, took time.Duration) {
	if len(gs.all) == 1 {
		return // there is nowhere else to go
	}
	switch {
	case why == causeConnection, why == causeDraining:
		gs.setHealth(g, down)
	case why == causeTimeout, took > slowPing:
		g.pingLimit.Do(func() {
			select {
			case gs.probes <- g:
			default: // probes are waiting already
			}
		})
	}
}

func (gs *gateways) setHealth(g *gateway, t health) {
	if before := health(g.health.Swap(int32(t))); before != t {
		gs.log.Warn("database host", "addr", g.addr, "is", t.String(), "was", before.String())
	}
}

func (gs *gateways) watch(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case g := <-gs.probes:
			gs.probe(ctx, g)
		case <-tick.C:
			for _, g := range gs.all {
				if health(g.health.Load()) != up {
					gs.probe(ctx, g)
				}
			}
		}
	}
}

// probe pings a host and decides what to setHealth of it.
func (gs *gateways) probe(ctx context.Context, g *gateway) {
	took, err := g.ping(ctx)
	if ctx.Err() != nil {
		return
	}
	was := health(g.health.Load())
	switch {
	case err != nil:
		g.promptPings = 0
		gs.setHealth(g, down)
	case took > slowPing && gs.fasterExists(ctx, g, took):
		g.promptPings = 0
		gs.setHealth(g, slow)
	case was == slow && g.promptPings+1 < promptPingsNeeded:
		g.promptPings++
	default:
		g.promptPings = 0
		gs.setHealth(g, up)
	}
}

// fasterExists reports whether some other host answers in half the time: it
// must be worth the longer way. When all are slow it is not the host, but this
// machine, or the network.
func (gs *gateways) fasterExists(ctx context.Context, than *gateway, took time.Duration) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the slower ones need not be waited for
	found := make(chan bool, len(gs.all))
	for _, g := range gs.all {
		if g == than {
			continue
		}
		gs.wg.Go(func() {
			other, err := g.ping(ctx)
			found <- err == nil && other < took/2
		})
	}
	for range len(gs.all) - 1 {
		if <-found {
			return true
		}
	}
	return false
}

// ping returns how long an empty statement takes: one round trip, in which the
// server has answered. It takes a connection that lies idle, since to connect
// takes a slow host several times as long, and else connects anew.
func (g *gateway) ping(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if idle := g.idleConn(ctx); idle != nil {
		took, err := roundTrip(ctx, idle.Conn())
		idle.Release()
		if err == nil || ctx.Err() != nil {
			return took, err
		}
	}
	cc := g.pingConfig.Copy()
	g.files.refresh(ctx, cc)
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return 0, err
	}
	took, err := roundTrip(ctx, conn)
	_ = conn.Close(ctx) // it has served
	return took, err
}

func roundTrip(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	began := time.Now()
	err := conn.Ping(ctx)
	return time.Since(began), err
}

// idleConn returns a connection that nobody uses, nil if there is none. It waits for
// nothing.
func (g *gateway) idleConn(ctx context.Context) *pgxpool.Conn {
	all := g.control.AcquireAllIdle(ctx)
	if len(all) == 0 {
		return nil
	}
	for _, conn := range all[1:] {
		conn.Release()
	}
	return all[0]
}
