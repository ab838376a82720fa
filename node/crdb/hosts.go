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
	"github.com/jackc/pgx/v5/pgxpool"
)

type address struct {
	host string
	port uint16
	tls  *tls.Config
}

func (a address) String() string { return net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) }

// addresses returns the hosts of a connection URL in its order. pgx lists a
// host once more for each way to encrypt (sslmode=prefer): the first counts.
func addresses(cc *pgx.ConnConfig) []address {
	list := []address{{cc.Host, cc.Port, cc.TLSConfig}}
	seen := map[string]bool{list[0].String(): true}
	for _, f := range cc.Fallbacks {
		if a := (address{f.Host, f.Port, f.TLSConfig}); !seen[a.String()] {
			seen[a.String()] = true
			list = append(list, a)
		}
	}
	return list
}

// host is one gateway of the database with pools of its own.
type host struct {
	addr  string
	hot   *pgxpool.Pool
	reads *pgxpool.Pool
	away  atomic.Bool // true from a failure until a ping answered
}

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
	// A ping of a living host takes one round trip, at most about 300 ms
	// between regions.
	pingTimeout = time.Second
	// How soon a host that came back is used again.
	probeEvery = 2 * time.Second
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
	for _, h := range hs.all {
		for _, pool := range []*pgxpool.Pool{h.hot, h.reads} {
			if pool != nil {
				pool.Close()
			}
		}
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

func (hs *hosts) ping(ctx context.Context, h *host) {
	attempt, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	err := h.reads.Ping(attempt)
	if ctx.Err() == nil {
		hs.setAway(h, err != nil)
	}
}
