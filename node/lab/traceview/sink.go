// Package traceview receives spans over OTLP/HTTP into memory. People and tests read traces over several processes on
// one machine. It is no collector for production: it stores nothing, forwards nothing and authenticates no caller.
package traceview

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/trace"
)

// Config limits a Sink.
type Config struct {
	// MaxBytes is the approximate memory for spans. Beyond it the Sink drops the trace that began first.
	MaxBytes int
	// MaxRequest is the longest request in bytes, after gzip.
	MaxRequest int64
}

// DefaultConfig keeps about 50,000 spans, several times those of a demo. An SDK sends 512 spans at a time: about 200
// kB, or 13 MB if each were a batch's span with 512 links.
func DefaultConfig() Config { return Config{MaxBytes: 64 << 20, MaxRequest: 16 << 20} }

// Sink keeps the traces that it receives. It is safe for concurrent use.
type Sink struct {
	cfg Config

	mu sync.Mutex
	// guarded by mu:
	traces  map[string]*entry
	order   []*entry // ordered by arrival of the first span
	bytes   int
	dropped int
	version uint64        // counts the requests that changed something
	changed chan struct{} // closed and replaced with each version
}

// entry is the received part of one trace.
type entry struct {
	id      string
	spans   map[string]Span
	bytes   int
	version uint64
}

// New returns an empty Sink.
func New(cfg Config) *Sink {
	return &Sink{cfg: cfg, traces: make(map[string]*entry), changed: make(chan struct{})}
}

// Trace returns the received part of a trace, by its id of 32 hex digits.
func (s *Sink) Trace(id string) (Trace, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.traces[id]
	if !ok {
		return Trace{}, false
	}
	return e.snapshot(), true
}

// Find returns the first trace for which match is true, in the order of arrival. A trace may still be incomplete.
func (s *Sink) Find(match func(Trace) bool) (Trace, bool) {
	t, ok, _, _ := s.findSince(0, match)
	return t, ok
}

// All returns every trace in the order of arrival.
func (s *Sink) All() []Trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Trace, len(s.order))
	for i, e := range s.order {
		all[i] = e.snapshot()
	}
	return all
}

// WaitFor returns the first trace for which match is true, as soon as there is one. Spans arrive about a second after
// their end, in any order. So match must require everything that the caller needs. If ctx ends first, the error says
// how much has arrived.
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

// Len returns the number of traces and spans, and how many spans were dropped.
func (s *Sink) Len() (traces, spans, dropped int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.order {
		spans += len(e.spans)
	}
	return len(s.order), spans, s.dropped
}

// findSince looks at the traces that changed after a version. match runs without the lock, so it may call the sink.
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

// add keeps spans. A span that was sent before is kept once.
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
