// Package traceview receives spans over OTLP/HTTP into memory, so that traces
// over several processes can be looked at on one machine, and checked by tests.
// It is not a collector for production: it stores nothing, forwards nothing and asks
// nobody who they are.
package traceview

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// Config bounds a Sink.
type Config struct {
	// MaxBytes is about how much memory the kept spans may take. When it is
	// reached the trace that began first goes.
	MaxBytes int
	// MaxRequest is the longest request in bytes, unpacked.
	MaxRequest int64
}

// DefaultConfig keeps some 50,000 spans: a demo's sampled rush, several times.
// An SDK sends 512 spans at a time: some 200 kB, or 13 MB if each of them were
// a batch's with 512 links.
func DefaultConfig() Config { return Config{MaxBytes: 64 << 20, MaxRequest: 16 << 20} }

// Sink keeps the traces that it is sent. It is safe for concurrent use.
type Sink struct {
	cfg Config

	mu sync.Mutex
	// guarded by mu:
	traces  map[string]*entry
	order   []*entry // the one that began first comes first
	bytes   int
	dropped int
	version uint64        // counts the requests that changed something
	changed chan struct{} // closed and replaced with each version
}

// entry is one trace as far as it is here.
type entry struct {
	id      string
	spans   map[string]Span
	bytes   int
	version uint64
}

// New makes an empty Sink.
func New(cfg Config) *Sink {
	return &Sink{cfg: cfg, traces: make(map[string]*entry), changed: make(chan struct{})}
}

// Trace returns what is here of a trace, by its id of 32 hex digits.
func (s *Sink) Trace(id string) (Trace, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.traces[id]
	if !ok {
		return Trace{}, false
	}
	return e.snapshot(), true
}

// Find returns the first trace, in the order in which they began to arrive,
// for which match is true. A trace may still be incomplete.
func (s *Sink) Find(match func(Trace) bool) (Trace, bool) {
	t, ok, _, _ := s.findSince(0, match)
	return t, ok
}

// All returns every trace, the one that began to arrive first comes first.
func (s *Sink) All() []Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Trace, len(s.order))
	for i, e := range s.order {
		all[i] = e.snapshot()
	}
	return all
}

// WaitFor returns the first trace for which match is true, as soon as there is
// one. Spans arrive a second or so after they ended, in any order, so match
// must ask for everything that the caller is going to look at. When ctx ends it
// returns an error that tells what is here.
func (s *Sink) WaitFor(ctx context.Context, match func(Trace) bool) (Trace, error) {
	var seen uint64
	for {
		t, ok, version, changed := s.findSince(seen, match)
		if ok {
			return t, nil
		}
		seen = version
		select {
		case <-changed:
		case <-ctx.Done():
			traces, spans, dropped := s.Len()
			return Trace{}, fmt.Errorf("no such trace among %d traces with %d spans (%d dropped): %w", traces, spans, dropped, ctx.Err())
		}
	}
}

// Len returns how many traces and spans are here, and how many spans had to go
// or could not be kept.
func (s *Sink) Len() (traces, spans, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.order {
		spans += len(e.spans)
	}
	return len(s.order), spans, s.dropped
}

// findSince looks at the traces that changed after a version. match runs
// without the lock, so that it may ask the sink for other traces.
func (s *Sink) findSince(version uint64, match func(Trace) bool) (t Trace, ok bool, seen uint64, changed <-chan struct{}) {
	s.mu.Lock()
	var candidates []Trace
	for _, e := range s.order {
		if e.version > version {
			candidates = append(candidates, e.snapshot())
		}
	}
	seen, changed = s.version, s.changed
	s.mu.Unlock()
	for _, t := range candidates {
		if match(t) {
			return t, true, seen, changed
		}
	}
	return Trace{}, false, seen, changed
}

// add keeps spans; a span that was sent before is kept once.
func (s *Sink) add(spans []Span) {
	if len(spans) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	for _, span := range spans {
		e := s.traces[span.TraceID]
		if e == nil {
			e = &entry{id: span.TraceID, spans: make(map[string]Span)}
			s.traces[e.id] = e
			s.order = append(s.order, e)
		}
		e.version = s.version
		if _, again := e.spans[span.ID]; again {
			continue
		}
		e.spans[span.ID] = span
		e.bytes += span.size
		s.bytes += span.size
	}
	s.evict()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Sink) evict() {
	gone := 0
	for s.bytes > s.cfg.MaxBytes && gone < len(s.order) {
		e := s.order[gone]
		delete(s.traces, e.id)
		s.bytes -= e.bytes
		s.dropped += len(e.spans)
		gone++
	}
	s.order = slices.Delete(s.order, 0, gone)
}

func (e *entry) snapshot() Trace {
	t := Trace{ID: e.id, Spans: make([]Span, 0, len(e.spans))}
	for _, span := range e.spans {
		t.Spans = append(t.Spans, span)
	}
	slices.SortFunc(t.Spans, func(a, b Span) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	return t
}

// validID reports whether b is an id of the given length that is not all zero.
func validID(b []byte, length int) bool {
	return len(b) == length && slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}

const (
	traceIDBytes = len(trace.TraceID{})
	spanIDBytes  = len(trace.SpanID{})
)
