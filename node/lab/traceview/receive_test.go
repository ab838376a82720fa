package traceview

import (
	"bytes"
	"compress/gzip"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func mustMarshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func gzipped(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func stringValue(s string) *commonpb.AnyValue {
	return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: s}}
}

// request holds one good span and two spans with invalid ids.
func request() *coltracepb.ExportTraceServiceRequest {
	traceID, spanID := bytes.Repeat([]byte{0xab}, 16), bytes.Repeat([]byte{0xcd}, 8)
	return &coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{{Key: "service.instance.id", Value: stringValue("n1")}}},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{
			{
				TraceId: traceID, SpanId: spanID, Name: "request", StartTimeUnixNano: 1e18, EndTimeUnixNano: 1<<64 - 1,
				Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "no"},
				Links:  []*tracepb.Span_Link{{TraceId: traceID[:3], SpanId: spanID}},
				Attributes: []*commonpb.KeyValue{
					{Key: "s", Value: stringValue("text")}, {Key: "none"},
					{Key: "i", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: -3}}},
					{Key: "b", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: true}}},
					{Key: "f", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: 0.5}}},
				},
			},
			{TraceId: make([]byte, 16), SpanId: spanID},
			{TraceId: traceID, SpanId: spanID[:4]},
		}}},
	}}}
}

func TestReceiveAnswers(t *testing.T) {
	good := mustMarshal(t, request())
	const limit = 4096
	for _, c := range []struct {
		name, method, path, contentType, encoding string
		body                                      []byte
		status                                    int
	}{
		{"plain", "POST", "/v1/traces", contentType, "", good, 200},
		{"with a parameter", "POST", "/v1/traces", contentType + "; charset=binary", "identity", good, 200},
		{"packed", "POST", "/v1/traces", contentType, "gzip", gzipped(t, good), 200},
		{"empty", "POST", "/v1/traces", contentType, "", nil, 200},
		{"JSON", "POST", "/v1/traces", "application/json", "", []byte("{}"), 415},
		{"no type", "POST", "/v1/traces", "", "", good, 415},
		{"GET", "GET", "/v1/traces", contentType, "", nil, 405},
		{"metrics", "POST", "/v1/metrics", contentType, "", nil, 404},
		{"no protobuf", "POST", "/v1/traces", contentType, "", []byte("hello"), 400},
		{"no gzip", "POST", "/v1/traces", contentType, "gzip", good, 400},
		{"cut gzip", "POST", "/v1/traces", contentType, "gzip", gzipped(t, good)[:30], 400},
		{"unknown encoding", "POST", "/v1/traces", contentType, "br", good, 400},
		{"just too long", "POST", "/v1/traces", contentType, "", make([]byte, limit+1), 413},
		{"a gzip bomb", "POST", "/v1/traces", contentType, "gzip", gzipped(t, make([]byte, 1<<20)), 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.MaxRequest = limit
			s := New(cfg)
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, bytes.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			r.Header.Set("Content-Encoding", c.encoding)
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if w.Code != c.status {
				t.Errorf("answered %d %s, want %d", w.Code, w.Body, c.status)
			}
			wantSpans := 0
			if c.status == 200 && len(c.body) > 0 {
				wantSpans = 1
			}
			if _, spans, _ := s.Len(); spans != wantSpans {
				t.Errorf("keeps %d spans, want %d", spans, wantSpans)
			}
		})
	}
}

func TestDecodeReadsEveryFieldAndRejectsSpansWithoutIDs(t *testing.T) {
	s := New(DefaultConfig())
	answer, err := s.take(mustMarshal(t, request()))
	if err != nil {
		t.Fatal(err)
	}
	var response coltracepb.ExportTraceServiceResponse
	if err := proto.Unmarshal(answer, &response); err != nil || response.GetPartialSuccess().GetRejectedSpans() != 2 {
		t.Errorf("the answer is %v, %v; want 2 rejected spans", &response, err)
	}
	got := s.All()[0].Spans[0]
	if got.TraceID != "abababababababababababababababab" || got.ID != "cdcdcdcdcdcdcdcd" || got.Parent != "" {
		t.Errorf("ids are %s, %s, %q", got.TraceID, got.ID, got.Parent)
	}
	if got.Process.Instance != "n1" || got.Name != "request" || !got.Failed || got.Message != "no" {
		t.Errorf("the span is %+v, want request of n1, failed with no", got)
	}
	if got.Duration() <= 0 {
		t.Errorf("an end beyond all times gave the duration %v", got.Duration())
	}
	for key, want := range map[string]string{"s": "text", "i": "-3", "b": "true", "f": "0.5", "none": ""} {
		if got.Attributes[key] != want {
			t.Errorf("attribute %s is %q, want %q", key, got.Attributes[key], want)
		}
	}
}

func TestServerStartsAndStops(t *testing.T) {
	for range 20 {
		server, err := Start("127.0.0.1:0", DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v1/traces", bytes.NewReader(mustMarshal(t, request())))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("answered %s, %v; want 200", answer.Status, err)
		}
		http.DefaultClient.CloseIdleConnections()
		for range 2 {
			if err := server.Close(context.Background()); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}
	if _, err := Start("256.0.0.1:0", DefaultConfig()); err == nil {
		t.Error("started on an address that is none")
	}
}

func FuzzTake(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("hello"))
	f.Add(mustMarshal(f, request()))
	loop := request()
	bad := loop.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0]
	bad.ParentSpanId = bad.GetSpanId()
	bad.Name = "a\tb\nc\x1b[2J"
	f.Add(mustMarshal(f, loop))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := New(Config{MaxBytes: 1 << 20, MaxRequest: 1 << 20})
		if _, err := s.take(body); err != nil {
			return
		}
		for _, trace := range s.All() {
			if n := len(lines(trace)); n != len(trace.Spans) {
				t.Fatalf("%d spans are printed on %d lines", len(trace.Spans), n)
			}
			var out bytes.Buffer
			if err := WriteTree(&out, trace); err != nil {
				t.Fatal(err)
			}
			if got, want := bytes.Count(out.Bytes(), []byte("\n")), len(trace.Spans)+2; got != want {
				t.Fatalf("the tree of %d spans has %d lines, want %d:\n%s", len(trace.Spans), got, want, &out)
			}
			if i := bytes.IndexFunc(out.Bytes(), func(r rune) bool { return r < ' ' && r != '\n' }); i >= 0 {
				t.Fatalf("the tree has the control character %q:\n%s", out.Bytes()[i], &out)
			}
		}
		if s.bytes > 1<<20 {
			t.Fatalf("keeps %d bytes", s.bytes)
		}
	})
}
