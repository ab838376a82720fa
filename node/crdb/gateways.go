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
	// Other ways of encryption for the same address, with sslmode=prefer or allow.
	alternatives []*pgconn.FallbackConfig
}

func (a address) String() string { return net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) }

// addresses returns the addresses of a connection URL in their order. pgx lists an address once for each way of
// encryption. The further ways become its alternatives.
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

// gateway is a database node with its own pools.
type gateway struct {
	addr        string
	writes      *pgxpool.Pool   // write punches
	reads       *pgxpool.Pool   // read punches
	control     *pgxpool.Pool   // all other statements
	moves       *pgxpool.Pool   // carry rows from home to home; nil on a node
	pingConfig  *pgx.ConnConfig // for pings when no connection is idle: a busy pool does not mean a dead gateway
	files       *tlsFiles       // gives each new connection the present certificates
	health      atomic.Int32    // a health
	promptPings int             // fast pings in a row; only the watcher uses it
	pingLimit   rate.Sometimes  // limits the pings that slow attempts cause

	resets map[*pgxpool.Pool]*rate.Sometimes // limits the resets of each pool; complete once the pools are open
}

func (g *gateway) controlPool() *pgxpool.Pool { return g.control }
func (g *gateway) movesPool() *pgxpool.Pool   { return g.moves }

// health says how well a gateway answers. A smaller value is better.
type health int32

const (
	up   health = iota
	slow        // answers, but another gateway is much faster
	down        // lost a connection, or did not answer a ping
)

func (t health) String() string { return [...]string{"up", "slow", "down"}[t] }

func newGateway(addr string, files *tlsFiles) *gateway {
	return &gateway{addr: addr, files: files, pingLimit: rate.Sometimes{Interval: probeEvery}, resets: make(map[*pgxpool.Pool]*rate.Sometimes)}
}

// resetPool closes the pool's connections, so that new ones are made. A change of regions fails the statements of all
// homes at once. A reset for each failure would cost every statement its connection, so there is one reset in some
// seconds.
func (g *gateway) resetPool(pool *pgxpool.Pool) { g.resets[pool].Do(pool.Reset) }

// gateways chooses the gateway for each attempt: the nearest of the healthiest. A gateway that accepts and never
// answers is down once a ping times out. A gateway is slow when its pings are slow and those of another are fast.
type gateways struct {
	all []*gateway
	log *slog.Logger

	stop   context.CancelFunc
	wg     sync.WaitGroup
	probes chan *gateway
}

const (
	// A ping may need a new connection. With TLS that takes up to six round trips of about 300 ms between regions.
	pingTimeout = 2 * time.Second
	// The delay until a gateway that has recovered is used again.
	probeEvery = 2 * time.Second
	// A round trip between the farthest regions takes about 300 ms. A slower attempt may be the fault of the gateway or
	// of one home's ranges. A ping tells which. A gateway with a slower ping is compared with the others.
	slowPing = 500 * time.Millisecond
	// Load can make a gateway slow, and then it is fast as soon as it is not used. So it needs ten seconds of fast
	// pings.
	promptPingsNeeded = 5
	// Enough for a statement to end and for a connection to close while the database answers.
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
	// pgx waits up to 15 s for a frozen server to close a connection. Connections that are open after the timeout end
	// later by themselves, or with the process.
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
		gs.log.Warn("some database connections are still open and will close by themselves")
	}
}

// pick returns the gateway for the given attempt, counted from 0. Attempts rotate over the healthiest gateways, the
// nearest first.
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

// observe learns from how an attempt through g ended. A lost connection proves that the gateway is down. Silence and
// slowness may be the fault of one home's ranges only. So the gateway is pinged before other homes avoid it.
func (gs *gateways) observe(g *gateway, reason cause, took time.Duration) {
	if len(gs.all) == 1 {
		return // there is no other gateway
	}
	switch {
	case reason == causeConnection, reason == causeDraining:
		gs.setHealth(g, down)
	case reason == causeTimeout, took > slowPing:
		g.pingLimit.Do(func() {
			select {
			case gs.probes <- g:
			default: // enough pings are waiting
			}
		})
	}
}

func (gs *gateways) setHealth(g *gateway, t health) {
	if before := health(g.health.Swap(int32(t))); before != t {
		gs.log.Warn("the health of a database gateway changed", "addr", g.addr, "health", t.String(), "before", before.String())
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

// probe pings a gateway and sets its health.
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

// fasterExists reports whether another gateway answers in half the time. Only then a longer way pays. When all gateways
// are slow, this machine or the network is slow.
func (gs *gateways) fasterExists(ctx context.Context, than *gateway, took time.Duration) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // stops the pings that are still running
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

// ping returns the time of an empty statement: one round trip in which the server answered. It uses an idle connection
// when there is one, because connecting takes a slow gateway several round trips.
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
	_ = conn.Close(ctx) // the connection was for this ping
	return took, err
}

func roundTrip(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	began := time.Now()
	err := conn.Ping(ctx)
	return time.Since(began), err
}

// idleConn returns an idle connection, or nil. It does not wait.
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
