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
	probe   *pgx.ConnConfig // for pings: a pool without a free connection is no dead host
	away    atomic.Bool     // true from a failure until a ping answered

	renewals map[*pgxpool.Pool]*rate.Sometimes // of the pools above, complete once they are open
}

func (h *host) controlPool() *pgxpool.Pool { return h.control }
func (h *host) movesPool() *pgxpool.Pool   { return h.moves }

func newHost(addr string) *host {
	return &host{addr: addr, renewals: make(map[*pgxpool.Pool]*rate.Sometimes)}
}

// renew gives the pool new connections. A change of regions fails the
// statements of all homes at once, and each reset costs all of them their
// connections. One is enough until the change is through everywhere, which takes
// seconds.
func (h *host) renew(pool *pgxpool.Pool) { h.renewals[pool].Do(pool.Reset) }

// hosts chooses the gateway for each attempt: the nearest that is not away.
// A gray host, one that accepts and never answers, counts as away once a ping
// to it has timed out.
type hosts struct {
	all []*host
	log *slog.Logger

	stop  context.CancelFunc
	wg    sync.WaitGroup
	probe chan *host
}

const (
	// A ping is a new connection: up to six round trips with TLS and a
	// password, each at most about 300 ms between regions.
	pingTimeout = 2 * time.Second
	// How soon a host that came back is used again.
	probeEvery = 2 * time.Second
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
// over the hosts that are there; when all are away they walk over all.
func (hs *hosts) pick(attempt int) *host {
	there := make([]*host, 0, 8)
	for _, h := range hs.all {
		if !h.away.Load() {
			there = append(there, h)
		}
	}
	if len(there) == 0 {
		there = hs.all
	}
	return there[attempt%len(there)]
}

// note takes in how an attempt through h failed. A lost connection proves the
// host away; silence may be the fault of one home's ranges only, so the host
// is pinged before other homes are led around it.
func (hs *hosts) note(h *host, why cause) {
	if len(hs.all) == 1 {
		return // there is nowhere else to go
	}
	switch why {
	case causeConnection, causeDraining:
		hs.setAway(h, true)
	case causeTimeout:
		select {
		case hs.probe <- h:
		default: // probes are waiting already
		}
	}
}

func (hs *hosts) setAway(h *host, away bool) {
	if h.away.Swap(away) != away {
		hs.log.Warn("database host", "addr", h.addr, "away", away)
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
			hs.ping(ctx, h)
		case <-tick.C:
			for _, h := range hs.all {
				if h.away.Load() {
					hs.ping(ctx, h)
				}
			}
		}
	}
}

// ping connects anew: the server has answered when that is done.
func (hs *hosts) ping(ctx context.Context, h *host) {
	attempt, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(attempt, h.probe.Copy())
	if err == nil {
		_ = conn.Close(attempt) // it has served
	}
	if ctx.Err() == nil {
		hs.setAway(h, err != nil)
	}
}
