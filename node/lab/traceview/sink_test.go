package traceview

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// span makes a span of a trace. Ids are small numbers.
func span(trace, id, parent int, name string) Span {
	at := time.Date(2026, 3, 2, 8, 30, 0, 0, time.UTC).Add(time.Duration(id) * time.Millisecond)
	s := Span{
		TraceID: fmt.Sprintf("%032x", trace), ID: fmt.Sprintf("%016x", id),
		Name: name, Kind: "internal", Start: at, End: at.Add(2500 * time.Microsecond), size: 100,
	}
	if parent != 0 {
		s.Parent = fmt.Sprintf("%016x", parent)
	}
	return s
}

func TestSinkForgetsTheFirstTraceWhenItIsFull(t *testing.T) {
	s := New(Config{MaxBytes: 500})
	for trace := 1; trace <= 4; trace++ {
		s.add([]Span{span(trace, 1, 0, "request"), span(trace, 2, 1, "commit")})
	}
	var ids []string
	for _, trace := range s.All() {
		ids = append(ids, strings.TrimLeft(trace.ID, "0"))
	}
	if got := strings.Join(ids, " "); got != "3 4" {
		t.Errorf("traces %s are left of 4 of 200 bytes each in 500 bytes, want 3 4", got)
	}
	if traces, spans, dropped := s.Len(); traces != 2 || spans != 4 || dropped != 4 {
		t.Errorf("Len is %d traces, %d spans, %d dropped; want 2, 4, 4", traces, spans, dropped)
	}
	big := make([]Span, 10)
	for i := range big {
		big[i] = span(9, i+1, 0, "big")
	}
	s.add(big)
	if traces, spans, _ := s.Len(); traces != 0 || spans != 0 || s.bytes != 0 {
		t.Errorf("%d traces with %d spans and %d bytes are kept after a trace larger than the sink, want none", traces, spans, s.bytes)
	}
}

func TestSinkKeepsASpanSentTwiceOnce(t *testing.T) {
	s := New(DefaultConfig())
	for range 2 {
		s.add([]Span{span(1, 1, 0, "request"), span(1, 2, 1, "commit")})
	}
	if traces, spans, _ := s.Len(); traces != 1 || spans != 2 || s.bytes != 200 {
		t.Errorf("%d traces with %d spans and %d bytes, want 1, 2, 200", traces, spans, s.bytes)
	}
}

func TestFindTakesTheFirst(t *testing.T) {
	s := New(DefaultConfig())
	for trace := 1; trace <= 3; trace++ {
		s.add([]Span{span(trace, trace, 0, fmt.Sprintf("request %d", min(trace, 2)))})
	}
	got, ok := s.Find(func(tr Trace) bool { _, ok := tr.Span("request 2"); return ok })
	if !ok || got.ID != fmt.Sprintf("%032x", 2) {
		t.Errorf("found %v %s, want trace 2", ok, got.ID)
	}
	if _, ok := s.Find(func(Trace) bool { return false }); ok {
		t.Error("found a trace that does not match")
	}
	if _, ok := s.Trace("f"); ok {
		t.Error("found a trace by an id that is not there")
	}
}

func TestWaitForComesBackWhenTheLastSpanIsThere(t *testing.T) {
	s := New(DefaultConfig())
	s.add([]Span{span(1, 1, 0, "request")})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	looked := make(chan struct{}, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := s.WaitFor(ctx, func(tr Trace) bool {
			looked <- struct{}{}
			_, ok := tr.Span("commit")
			return ok
		})
		if err != nil || len(got.Spans) != 2 {
			t.Errorf("WaitFor returned %+v, %v; want the trace with both spans", got, err)
		}
	})
	<-looked // match has seen the incomplete trace
	s.add([]Span{span(2, 1, 0, "other")})
	s.add([]Span{span(1, 2, 1, "commit")})
	wg.Wait()
	if n := len(looked); n > 2 {
		t.Errorf("the unchanged trace was looked at again: %d looks after the first, want at most 2", n)
	}
}

func TestWaitForGivesUpAndSaysWhatIsThere(t *testing.T) {
	s := New(DefaultConfig())
	s.add([]Span{span(1, 1, 0, "request")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.WaitFor(ctx, func(Trace) bool { return false })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 traces with 1 spans") {
		t.Errorf("WaitFor returned %v, want canceled, with what is here", err)
	}
}
