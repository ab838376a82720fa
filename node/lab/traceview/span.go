package traceview

import (
	"encoding/hex"
	"math"
	"strconv"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Trace is the received part of one trace.
type Trace struct {
	ID    string // 32 hex digits
	Spans []Span // ordered by start time
}

// Span is one finished span. Callers share it and must not change it.
type Span struct {
	TraceID string // 32 hex digits
	ID      string // 16 hex digits
	Parent  string // empty for a root
	Name    string
	Kind    string // internal, server, client, producer, consumer
	Start   time.Time
	End     time.Time
	Process Process
	// Attributes are the span's own, with every value as text.
	Attributes map[string]string
	Links      []Link
	Failed     bool
	Message    string // why it failed

	size int // approximate bytes of memory
}

// Process is the process that made a span.
type Process struct {
	Service  string // service.name
	Instance string // service.instance.id
	Region   string // cloud.region
	PID      string // process.pid
}

// Link points at a span of another trace.
type Link struct{ TraceID, SpanID string }

// Duration returns how long the span took. It is never negative.
func (s *Span) Duration() time.Duration { return max(0, s.End.Sub(s.Start)) }

// Span returns the first span with the given name.
func (t Trace) Span(name string) (Span, bool) {
	for _, s := range t.Spans {
		if s.Name == name {
			return s, true
		}
	}
	return Span{}, false
}

// Named returns all spans with the given name.
func (t Trace) Named(name string) []Span {
	var named []Span
	for _, s := range t.Spans {
		if s.Name == name {
			named = append(named, s)
		}
	}
	return named
}

// Processes returns the processes of a trace, in the order of their first span.
func (t Trace) Processes() []Process {
	var all []Process
	seen := make(map[Process]bool)
	for _, s := range t.Spans {
		if !seen[s.Process] {
			seen[s.Process] = true
			all = append(all, s.Process)
		}
	}
	return all
}

// decode returns the spans of a request, and the number of spans without valid ids.
func decode(resources []*tracepb.ResourceSpans) (spans []Span, rejected int64) {
	for _, rs := range resources {
		attrs := texts(rs.GetResource().GetAttributes())
		process := Process{
			Service: attrs["service.name"], Instance: attrs["service.instance.id"],
			Region: attrs["cloud.region"], PID: attrs["process.pid"],
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, pb := range ss.GetSpans() {
				if !validID(pb.GetTraceId(), traceIDBytes) || !validID(pb.GetSpanId(), spanIDBytes) {
					rejected++
					continue
				}
				spans = append(spans, newSpan(pb, process))
			}
		}
	}
	return spans, rejected
}

func newSpan(pb *tracepb.Span, process Process) Span {
	// These estimates are 10% to 50% above the measured heap, for spans of all kinds.
	const fixed, perWireByte = 512, 3
	s := Span{
		TraceID:    hex.EncodeToString(pb.GetTraceId()),
		ID:         hex.EncodeToString(pb.GetSpanId()),
		Name:       pb.GetName(),
		Kind:       kind(pb.GetKind()),
		Start:      unixNano(pb.GetStartTimeUnixNano()),
		End:        unixNano(pb.GetEndTimeUnixNano()),
		Process:    process,
		Attributes: texts(pb.GetAttributes()),
		Failed:     pb.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		Message:    pb.GetStatus().GetMessage(),
		size:       fixed + perWireByte*proto.Size(pb),
	}
	if validID(pb.GetParentSpanId(), spanIDBytes) {
		s.Parent = hex.EncodeToString(pb.GetParentSpanId())
	}
	for _, l := range pb.GetLinks() {
		s.Links = append(s.Links, Link{hex.EncodeToString(l.GetTraceId()), hex.EncodeToString(l.GetSpanId())})
	}
	return s
}

func kind(k tracepb.Span_SpanKind) string {
	switch k {
	case tracepb.Span_SPAN_KIND_SERVER:
		return "server"
	case tracepb.Span_SPAN_KIND_CLIENT:
		return "client"
	case tracepb.Span_SPAN_KIND_PRODUCER:
		return "producer"
	case tracepb.Span_SPAN_KIND_CONSUMER:
		return "consumer"
	default:
		return "internal"
	}
}

// unixNano limits a time that does not fit into an int64. The conversion would make it negative.
func unixNano(ns uint64) time.Time {
	return time.Unix(0, int64(min(ns, math.MaxInt64))).UTC()
}

func texts(kvs []*commonpb.KeyValue) map[string]string {
	m := make(map[string]string, len(kvs))
	for _, kv := range kvs {
		m[kv.GetKey()] = text(kv.GetValue())
	}
	return m
}

// text formats simple values. Punchclock uses no lists and maps, so they become an ellipsis.
func text(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case nil:
		return ""
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *commonpb.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *commonpb.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	default:
		return "…"
	}
}
