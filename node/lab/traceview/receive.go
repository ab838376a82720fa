package traceview

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

const contentType = "application/x-protobuf"

// errTooLarge is returned for a request longer than Config.MaxRequest.
var errTooLarge = errors.New("the request is too large")

// Handler returns the handler of POST /v1/traces, which takes OTLP as protobuf over HTTP, plain or with gzip. People
// read GET /traces, a list, and GET /traces/{id}, a tree.
func (s *Sink) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", s.receive)
	mux.HandleFunc("GET /traces", s.list)
	mux.HandleFunc("GET /traces/{id}", s.show)
	return mux
}

func (s *Sink) receive(w http.ResponseWriter, r *http.Request) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != contentType {
		http.Error(w, "send "+contentType, http.StatusUnsupportedMediaType)
		return
	}
	body, err := s.body(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, errTooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	answer, err := s.take(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(answer) // the sender may be gone
}

func (s *Sink) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var in io.Reader = http.MaxBytesReader(w, r.Body, s.cfg.MaxRequest)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		in = unpacked
	default:
		return nil, fmt.Errorf("unknown content encoding %q", encoding)
	}
	// One byte more tells a full body from a body that is too long.
	body, err := io.ReadAll(io.LimitReader(in, s.cfg.MaxRequest+1))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), int64(len(body)) > s.cfg.MaxRequest:
		return nil, errTooLarge
	case err != nil:
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	return body, nil
}

// take keeps the spans of one request and returns the answer.
func (s *Sink) take(body []byte) ([]byte, error) {
	var request coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("not an ExportTraceServiceRequest: %w", err)
	}
	spans, rejected := decode(request.GetResourceSpans())
	s.add(spans)
	var answer coltracepb.ExportTraceServiceResponse
	if rejected > 0 {
		answer.PartialSuccess = &coltracepb.ExportTracePartialSuccess{
			RejectedSpans: rejected, ErrorMessage: "spans without a valid trace id and span id",
		}
	}
	return proto.Marshal(&answer)
}

// Server is a Sink with a listener.
type Server struct {
	*Sink
	// URL is a value for OTEL_EXPORTER_OTLP_ENDPOINT.
	URL string

	http *http.Server
	done chan error
}

// Start makes a Sink and serves it on addr, such as "127.0.0.1:0", until Close.
func Start(addr string, cfg Config) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("trace sink: %w", err)
	}
	s := &Server{Sink: New(cfg), URL: "http://" + listener.Addr().String(), done: make(chan error, 1)}
	s.http = &http.Server{
		Handler: s.Handler(),
		// A sender on the same machine needs milliseconds.
		ReadTimeout:  10 * time.Second,
		WriteTimeout: 10 * time.Second,
	}
	go func() { s.done <- s.http.Serve(listener) }()
	return s, nil
}

// Close stops the server. It waits for requests under way until ctx ends. The traces stay readable.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	if serveErr := <-s.done; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	s.done <- http.ErrServerClosed // for a second Close
	return err
}
