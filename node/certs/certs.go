// Package certs loads the certificates of a node, reloads changed files, and verifies peers by the names that a
// deployment gives its nodes. It also is the CA for development. It opens no connection, and knows no tokens, passwords
// or database roles. DESIGN.md explains the reload and the names.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"
)

// Files are the files of one use of TLS: a certificate with its key, CA certificates, or both. A file with an empty path
// is left out.
type Files struct {
	Certificate File // PEM: the certificate, then its intermediates
	Key         File // PEM: the key of Certificate
	CA          File // PEM: CA certificates, several while one CA replaces another
	// Self is the name that the certificate must have, and CA must have signed it. With the zero Name neither is checked
	// here: the other side checks such a certificate.
	Self Name
}

// File is one file.
type File struct {
	Path    string
	Setting string // the file's name in errors and logs
	Label   string // the value of the metrics' label "certificate": peer, ca, public, …
}

// Config says how a Set looks after files.
type Config struct {
	CheckEvery time.Duration // how often the files are read
}

// DefaultConfig returns the configuration for a node. Certificates are replaced days before they end. Two seconds are
// for the operator who waits for the effect, and reading a few files costs nothing.
func DefaultConfig() Config { return Config{CheckEvery: 2 * time.Second} }

// Validate names the field that is wrong.
func (c Config) Validate() error {
	if c.CheckEvery <= 0 {
		return fmt.Errorf("certificates: CheckEvery must be more than 0, is %s", c.CheckEvery)
	}
	return nil
}

// Deps is what a Set reports to.
type Deps struct {
	Log   *slog.Logger
	Meter metric.MeterProvider
}

// refusalLogEvery bounds the log lines that unknown callers can cause.
const refusalLogEvery = 10 * time.Second

// Set is the certificates of one process. Close must be called.
type Set struct {
	log        *slog.Logger
	metrics    metrics
	refusalLog rate.Sometimes

	mu      sync.Mutex // guards sources
	sources []*Source

	stop context.CancelFunc
	done chan struct{}
}

// New starts to check the files that Load adds.
func New(cfg Config, deps Deps) (*Set, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Set{log: deps.Log, refusalLog: rate.Sometimes{Interval: refusalLogEvery}, stop: stop, done: make(chan struct{})}
	if err := s.observe(deps.Meter); err != nil {
		stop()
		return nil, err
	}
	go func() {
		defer close(s.done)
		s.watch(ctx, cfg.CheckEvery)
	}()
	return s, nil
}

// Close ends the checks. The loaded certificates stay usable.
func (s *Set) Close() {
	s.stop()
	<-s.done
	s.metrics.unregister()
}

// Source is one use of TLS, with the last valid content of its files.
type Source struct {
	files   Files
	set     *Set
	current atomic.Pointer[credentials]

	// Only the watcher uses these.
	loaded   sum  // of current
	seen     sum  // of the files at the last check, if it differs from loaded
	reported bool // that the content of seen is not valid
}

// credentials are one valid content of the files.
type credentials struct {
	own      *tls.Certificate // nil without a certificate
	roots    *x509.CertPool   // nil without CAs
	ownEnds  time.Time        // the earliest end of the certificate and its intermediates
	rootsEnd time.Time        // the earliest end of the CAs
	// notValidNow is set if the certificate had ended, or not begun, when it was loaded. Others refuse it.
	notValidNow error
}

// Load reads the files and keeps them up to date until Close. The error names the setting of an invalid file. The node's
// own certificate may have ended, or not begun, which only causes a log line: a node that its peers do not call still
// takes punches, and a fleet that cannot restart is the worse outage.
func (s *Set) Load(files Files) (*Source, error) {
	source := &Source{files: files, set: s}
	contents, err := read(files)
	if err != nil {
		return nil, err
	}
	c, err := parse(files, contents)
	if err != nil {
		return nil, err
	}
	if c.notValidNow != nil {
		s.log.Error("others will refuse this certificate", "certificate", source.label(), "error", c.notValidNow)
	}
	if Exposed(files.Key.Path) {
		s.log.Warn("every user of this machine can read or change the key", "setting", files.Key.Setting, "path", files.Key.Path)
	}
	source.current.Store(c)
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

// refresh loads changed files if they are valid and two checks in a row have read the same content. Three files cannot be
// replaced at one moment. A file that is written in place may be read half, and half a list of CAs is valid.
// Invalid files leave the loaded certificates in use, and count.
func (s *Source) refresh(ctx context.Context) {
	contents, err := read(s.files)
	now := sumOf(contents, err)
	if now == s.loaded || now != s.seen {
		s.seen, s.reported = now, false
		return
	}
	var c *credentials
	if err == nil {
		c, err = parse(s.files, contents)
	}
	if err == nil && s.current.Load().notValidNow == nil {
		err = c.notValidNow // it must not replace a certificate that holds
	}
	if err != nil {
		s.reject(ctx, err)
		return
	}
	s.current.Store(c)
	s.loaded = now
	s.set.log.InfoContext(ctx, "changed certificates were loaded", "certificate", s.label(), "ends", c.ownEnds, "ca_ends", c.rootsEnd)
}

func (s *Source) reject(ctx context.Context, err error) {
	s.set.metrics.reloadFailed(ctx, s.label())
	if !s.reported {
		s.reported = true
		s.set.log.ErrorContext(ctx, "changed certificate files are invalid; the loaded certificates stay in use",
			"certificate", s.label(), "error", err)
	}
}

func (s *Source) label() string {
	if s.files.Certificate.Path == "" {
		return s.files.CA.Label
	}
	return s.files.Certificate.Label
}
