package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Server answers DNS. It is safe for concurrent use.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	apex    string // clock.<zone>. in lower case
	ttl     uint32 // seconds
	now     func() time.Time
	idle    time.Duration // idleTimeout
	current atomic.Pointer[snapshot]

	life    sync.Mutex // guards udp to closed, and orders Start and Close
	udp     *net.UDPConn
	tcp     *net.TCPListener
	stop    context.CancelFunc
	closed  bool
	running sync.WaitGroup
	conns   connections
}

// New checks the configuration. It starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := deps.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Meter)
	if err != nil {
		return nil, fmt.Errorf("dns: metrics: %w", err)
	}
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Log, metrics: m, now: time.Now, idle: idleTimeout,
		apex: apexOf(cfg.Zone), ttl: uint32(cfg.TTL / time.Second),
	}
	s.refresh()
	return s, nil
}

// refreshEvery is the age at which the state of the regions is computed again. Gossip takes about a second, so 200 ms
// add little, and the computation takes some microseconds.
const refreshEvery = 200 * time.Millisecond

// refresh computes the state of the regions. Queries read the result, so a flood of queries calls none of Deps.
func (s *Server) refresh() { s.current.Store(newSnapshot(s.current.Load(), s.cfg.Regions, s.deps)) }

// Start listens on the address and starts to answer.
func (s *Server) Start(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.udp != nil || s.closed {
		return errors.New("dns: Start may be called once, and not after Close")
	}
	var err error
	if s.udp, s.tcp, err = listen(ctx, s.cfg.Addr); err != nil {
		return fmt.Errorf("dns: Addr %s: %w", s.cfg.Addr, err)
	}
	refreshing, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() {
		tick := time.NewTicker(refreshEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.refresh()
			case <-refreshing.Done():
				return
			}
		}
	})
	for range udpReaders {
		s.running.Go(s.serveUDP)
	}
	s.running.Go(s.serveTCP)
	return nil
}

// Addr returns the listening address. It is not valid before Start has returned.
func (s *Server) Addr() netip.AddrPort {
	s.life.Lock()
	defer s.life.Unlock()
	if s.udp == nil {
		return netip.AddrPort{}
	}
	return addrPort(s.udp.LocalAddr())
}

// Close stops answering and waits for all goroutines of Start. It may be called twice, and before Start.
func (s *Server) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed || s.udp == nil {
		s.closed = true
		return nil
	}
	s.closed = true
	s.stop()
	err := errors.Join(s.udp.Close(), s.tcp.Close())
	s.conns.close()
	s.running.Wait()
	return err
}

// answer calls respond and catches a panic: no bytes from the network may end the node.
func (s *Server) answer(query []byte, from netip.Addr, udp bool) (reply []byte) {
	defer func() {
		if cause := recover(); cause != nil {
			s.metrics.drop(droppedPanic)
			s.log.Error("a DNS query caused a panic", "cause", fmt.Sprint(cause), "query", fmt.Sprintf("%x", query), "stack", string(debug.Stack()))
			reply = nil
		}
	}()
	return s.respond(query, from, udp)
}
