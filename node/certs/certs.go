// Package certs holds the certificates by which a node is known and knows its
// peers: read from files, read anew when these change, and checked against the
// names that a deployment gives its nodes. It also is the local authority of
// development. It opens no connection and knows no tokens, passwords or roles.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"
)

// Files is what one use of TLS is read from: a certificate with its key,
// authorities, or both. Neither is read when its path is empty.
type Files struct {
	Certificate File // PEM: the certificate, then intermediates
	Key         File // PEM; belongs to Certificate
	Authority   File // PEM: several while the authority is replaced
	// Self is who the certificate must name, and Authority must have signed it.
	// The zero Name asks for neither: such a certificate is checked by others.
	Self Name
}

// File is one of them.
type File struct {
	Path    string
	Setting string // names it in errors and logs
	Use     string // labels its metrics: peer, authority, public, …
}

// Deps is what a Set reports to.
type Deps struct {
	Log   *slog.Logger
	Meter metric.MeterProvider
	// Every is how often files are looked at; 2 s when 0. Certificates are
	// replaced days before they end: seconds are for whoever waits for the
	// effect, and reading a few files costs nothing.
	Every time.Duration
}

const defaultEvery = 2 * time.Second

// complainEvery bounds what strangers can make a node log.
const complainEvery = 10 * time.Second

// Set holds the certificates of one process. Close it.
type Set struct {
	log      *slog.Logger
	metrics  metrics
	complain rate.Sometimes

	mu      sync.Mutex // guards sources
	sources []*Source

	stop context.CancelFunc
	done chan struct{}
}

// NewSet starts to look after what Hold will add.
func NewSet(deps Deps) (*Set, error) {
	every := deps.Every
	if every == 0 {
		every = defaultEvery
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Set{log: deps.Log, complain: rate.Sometimes{Interval: complainEvery}, stop: stop, done: make(chan struct{})}
	if err := s.observe(deps.Meter); err != nil {
		stop()
		return nil, err
	}
	go func() {
		defer close(s.done)
		s.watch(ctx, every)
	}()
	return s, nil
}

// Close ends the watching. What was held stays usable.
func (s *Set) Close() {
	s.stop()
	<-s.done
	s.metrics.unregister()
}

// Source is one use of TLS: what its files held when they last were in order.
type Source struct {
	files Files
	set   *Set
	held  atomic.Pointer[held]

	// Only the watcher uses these.
	loaded sum  // of what is held
	seen   sum  // of what was there at the last look, when that is something else
	told   bool // that it is not in order
}

// held is a consistent state of the files.
type held struct {
	own      *tls.Certificate // nil without a certificate
	roots    *x509.CertPool   // nil without authorities
	ownEnds  time.Time        // the first of the certificate and its intermediates
	rootsEnd time.Time        // the first of the authorities
	untimely error            // why others refused the certificate when it was read: it had ended, or not begun
}

// Hold reads the files and keeps them up to date until Close. What is not in
// order is an error that names the setting. A certificate of this node's own
// that has ended, or not begun, is none, but a warning: a node that nobody calls
// still takes punches, and a fleet that cannot restart is the worse outage.
func (s *Set) Hold(files Files) (*Source, error) {
	source := &Source{files: files, set: s}
	contents, err := read(files)
	if err != nil {
		return nil, err
	}
	h, err := parse(files, contents)
	if err != nil {
		return nil, err
	}
	if h.untimely != nil {
		s.log.Error("others will refuse this certificate", "use", source.use(), "error", h.untimely)
	}
	if Exposed(files.Key.Path) {
		s.log.Warn("everybody on this machine can read or change the key", "setting", files.Key.Setting, "path", files.Key.Path)
	}
	source.held.Store(h)
	source.loaded = sumOf(contents, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources = append(s.sources, source)
	return source, nil
}

func (s *Set) all() []*Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clip(s.sources)
}

func (s *Set) watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, source := range s.all() {
				source.refresh(ctx)
			}
		}
	}
}

// refresh takes over changed files that are in order once two looks have found
// the same: three files cannot be replaced at one moment, and one that is being
// written in place may be seen half, which a list of authorities does not show.
// Others leave what is held in place, and count.
func (s *Source) refresh(ctx context.Context) {
	contents, err := read(s.files)
	now := sumOf(contents, err)
	if now == s.loaded || now != s.seen {
		s.seen, s.told = now, false
		return
	}
	var h *held
	if err == nil {
		h, err = parse(s.files, contents)
	}
	if err == nil && s.held.Load().untimely == nil {
		err = h.untimely
	}
	if err != nil {
		s.reject(ctx, err)
		return
	}
	s.held.Store(h)
	s.loaded = now
	s.set.log.InfoContext(ctx, "certificates were read anew", "use", s.use(), "ends", h.ownEnds, "authorities_end", h.rootsEnd)
}

func (s *Source) reject(ctx context.Context, err error) {
	s.set.metrics.reject(ctx, s.use())
	if !s.told {
		s.told = true
		s.set.log.ErrorContext(ctx, "changed certificate files are not in order; the ones before stay in use", "use", s.use(), "error", err)
	}
}

func (s *Source) use() string {
	if s.files.Certificate.Path == "" {
		return s.files.Authority.Use
	}
	return s.files.Certificate.Use
}
