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
type host struct {
	addr    string
	hot     *pgxpool.Pool   // writes punches
	reads   *pgxpool.Pool   // reads punches
	control *pgxpool.Pool   // everything else
	moves   *pgxpool.Pool   // carries rows from home to home; nil where nothing is moved
	probe   *pgx.ConnConfig // for pings where no connection lies idle: a pool without one is no dead host
	files   *transport      // asked before every connection
	trouble atomic.Int32    // a trouble: what is believed of it
	prompt  int             // pings in a row that were answered promptly; the watcher's
	pinged  rate.Sometimes  // pings because of slow attempts

	renewals map[*pgxpool.Pool]*rate.Sometimes // of the pools above, complete once they are open
}

func (h *host) controlPool() *pgxpool.Pool { return h.control }
func (h *host) movesPool() *pgxpool.Pool   { return h.moves }

// trouble is what keeps a host from being used, the lesser the better.
type trouble int32

const (
	fine trouble = iota
	slow         // answers, but others answer much sooner
	away         // lost a connection, or did not answer a ping
)

func (t trouble) String() string { return [...]string{"fine", "slow", "away"}[t] }

func newHost(addr string, files *transport) *host {
	return &host{addr: addr, files: files, pinged: rate.Sometimes{Interval: probeEvery}, renewals: make(map[*pgxpool.Pool]*rate.Sometimes)}
}

// renew gives the pool new connections. A change of regions fails the
// statements of all homes at once, and each reset costs all of them their
// connections. One is enough until the change is through everywhere, which takes
// seconds.
func (h *host) renew(pool *pgxpool.Pool) { h.renewals[pool].Do(pool.Reset) }

// hosts chooses the gateway for each attempt: the nearest of those in the least
// trouble. A gray host, one that accepts and never answers, counts as away once
// a ping to it has timed out, and as slow once its pings take long while
// another host's do not.
type hosts struct {
	all []*host
	log *slog.Logger

	stop  context.CancelFunc
	wg    sync.WaitGroup
	probe chan *host
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
	slowAnswer = 500 * time.Millisecond
	// A slow host is only slow while it is used, if load is what makes it slow:
	// ten seconds of prompt pings before it is tried again.
	promptPings = 5
	// What a statement needs to end, and a connection to say goodbye, where
	// the database answers.
	closePatience = 2 * time.Second
)

func (hs *hosts) start() {
	ctx, cancel := context.WithCancel(context.Background())
	hs.stop = cancel
	hs.probe = make(chan *host, len(hs.all))
	hs.wg.Go(func() { hs.watch(ctx) })
}

func (hs *hosts) close() {
	if hs.stop != nil {
		hs.stop()
		hs.wg.Wait()
	}
	// pgx waits up to 15 s for a frozen server to take its leave. What is not
	// closed in time ends by itself then, or with the process.
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		var pools sync.WaitGroup
		for _, h := range hs.all {
			for _, pool := range []*pgxpool.Pool{h.hot, h.reads, h.control, h.moves} {
				if pool != nil {
					pools.Go(pool.Close)
				}
			}
		}
		pools.Wait()
	}()
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-closed:
	case <-patience.C:
		hs.log.Warn("database connections are left to close by themselves")
	}
}

// pick returns the host for the given attempt, counted from 0. Attempts walk
// over the hosts in the least trouble, the nearest first.
func (hs *hosts) pick(attempt int) *host {
	best, least := make([]*host, 0, 8), away
	for _, h := range hs.all {
		switch t := trouble(h.trouble.Load()); {
		case t < least:
			best, least = append(best[:0], h), t
		case t == least:
			best = append(best, h)
		}
	}
	return best[attempt%len(best)]
}

// note takes in how an attempt through h ended. A lost connection proves the
// host away; silence and slowness may be the fault of one home's ranges only,
// so the host is pinged before other homes are led around it.
func (hs *hosts) note(h *host, why cause, took time.Duration) {
	if len(hs.all) == 1 {
		return // there is nowhere else to go
	}
	switch {
	case why == causeConnection, why == causeDraining:
		hs.believe(h, away)
	case why == causeTimeout, took > slowAnswer:
		h.pinged.Do(func() {
			select {
			case hs.probe <- h:
			default: // probes are waiting already
			}
		})
	}
}

func (hs *hosts) believe(h *host, t trouble) {
	if before := trouble(h.trouble.Swap(int32(t))); before != t {
		hs.log.Warn("database host", "addr", h.addr, "is", t.String(), "was", before.String())
	}
}

func (hs *hosts) watch(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-hs.probe:
			hs.judge(ctx, h)
		case <-tick.C:
			for _, h := range hs.all {
				if trouble(h.trouble.Load()) != fine {
					hs.judge(ctx, h)
				}
			}
		}
	}
}

// judge pings a host and decides what to believe of it.
func (hs *hosts) judge(ctx context.Context, h *host) {
	took, err := h.ping(ctx)
	if ctx.Err() != nil {
		return
	}
	was := trouble(h.trouble.Load())
	switch {
	case err != nil:
		h.prompt = 0
		hs.believe(h, away)
	case took > slowAnswer && hs.anotherIsFaster(ctx, h, took):
		h.prompt = 0
		hs.believe(h, slow)
	case was == slow && h.prompt+1 < promptPings:
		h.prompt++
	default:
		h.prompt = 0
		hs.believe(h, fine)
	}
}

// anotherIsFaster reports whether some other host answers in half the time: it
// must be worth the longer way. When all are slow it is not the host, but this
// machine, or the network.
func (hs *hosts) anotherIsFaster(ctx context.Context, than *host, took time.Duration) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the slower ones need not be waited for
	found := make(chan bool, len(hs.all))
	for _, h := range hs.all {
		if h == than {
			continue
		}
		hs.wg.Go(func() {
			other, err := h.ping(ctx)
			found <- err == nil && other < took/2
		})
	}
	for range len(hs.all) - 1 {
		if <-found {
			return true
		}
	}
	return false
}

// ping returns how long an empty statement takes: one round trip, in which the
// server has answered. It takes a connection that lies idle, since to connect
// takes a slow host several times as long, and else connects anew.
func (h *host) ping(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if idle := h.idle(ctx); idle != nil {
		took, err := roundTrip(ctx, idle.Conn())
		idle.Release()
		if err == nil || ctx.Err() != nil {
			return took, err
		}
	}
	cc := h.probe.Copy()
	h.files.refresh(ctx, cc)
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

// idle returns a connection that nobody uses, nil if there is none. It waits for
// nothing.
func (h *host) idle(ctx context.Context) *pgxpool.Conn {
	all := h.control.AcquireAllIdle(ctx)
	if len(all) == 0 {
		return nil
	}
	for _, conn := range all[1:] {
		conn.Release()
	}
	return all[0]
}
