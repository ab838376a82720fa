// Package httpapi is the public HTTP API. It decodes requests, calls the recorder or the reader, and encodes the answer.
// It alone knows HTTP statuses. It neither decides where a punch goes nor stores anything. Its tests hold it to the
// contract in openapi.yaml.
package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Config names the node and bounds requests.
type Config struct {
	Node         string        // this node's unique name, shown in a response header
	Region       region.Name   // stamped on punches as their entry region
	PunchTimeout time.Duration // of a punch or a batch of punches
	MaxBody      int64         // largest request body in bytes
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Node == "":
		return errors.New("public API: Node is empty")
	case c.Region == "":
		return errors.New("public API: Region is empty")
	case c.PunchTimeout <= 0:
		return fmt.Errorf("public API: PunchTimeout must be more than 0, is %s", c.PunchTimeout)
	case c.MaxBody <= 0:
		return fmt.Errorf("public API: MaxBody must be more than 0, is %d", c.MaxBody)
	default:
		return nil
	}
}

// Authenticator returns the identity of a token. Its errors are *punch.Error.
type Authenticator interface {
	Verify(ctx context.Context, token string) (auth.Identity, error)
	// CompanyHint returns whose share of a busy node a request with this token uses. It verifies nothing.
	CompanyHint(token string) string
}

// Reader reads punches. Its errors are *punch.Error. Any other error means Unavailable.
type Reader interface {
	// Find returns the receipt of a punch, NotFound when there is none.
	Find(ctx context.Context, key punch.Key) (punch.Receipt, error)
	// List returns at most q.Limit receipts in the order of q.
	List(ctx context.Context, q punch.Query) ([]punch.Receipt, error)
}

// Deps are the parts that the API calls and reports to. All but Waited are required.
type Deps struct {
	Recorder punch.Recorder
	Reader   Reader
	Auth     Authenticator
	Gate     Gate
	Levels   Levels
	// Waited returns how long the request of a context has waited for its handler, and whether its caller has left. With
	// nil, no wait is known and no caller has left.
	Waited  func(ctx context.Context) (waited time.Duration, left bool)
	Cluster *region.Cluster
	Ready   func() bool // reports whether the node may be sent punches
	// Draining reports whether the node has begun to drain, or its region is evacuated. Every answer then ends its
	// connection: a client must choose another node before this one closes the connection under its next request.
	Draining func() bool
	// ClockWrong reports whether the node's clock is known to differ from the database's by more than is allowed.
	// Punches are then refused with Unavailable: see checkClock.
	ClockWrong func() bool
	Clock      func() time.Time // the node's clock
	Log        *slog.Logger
	Meter      metric.MeterProvider
	Tracer     trace.TracerProvider
}

const (
	// readDeadline bounds a read. A person does not wait longer for a list.
	readDeadline = 5 * time.Second
	// maxReads bounds the reads that wait for the few database connections of reads. More of them could not be answered
	// within readDeadline.
	maxReads = 256
	// logInterval is the least time between two log lines about failed requests. An outage fails thousands a second for
	// one cause.
	logInterval = time.Second
	// maxKeptBuffer is the largest buffer that is kept for the next request. It has room for a page of receipts. The
	// buffers of full batches would pile up.
	maxKeptBuffer = 512 << 10
)

// API is the public HTTP API, an http.Handler.
type API struct {
	cfg     Config
	deps    Deps
	handler http.Handler
	metrics *instruments
	tracer  trace.Tracer
	node    []string // the header's value, made once

	full       atDoor        // the answers of a node that has too much to do
	degraded   atDoor        // the answers to classes that are not served at the level
	buffers    sync.Pool     // of *bytes.Buffer
	reading    chan struct{} // holds one value per read under way
	inFlight   atomic.Int64  // punches
	memory     memory        // of punches and batches
	logLimiter rate.Sometimes
}

// New makes the API.
func New(cfg Config, deps Deps) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &API{
		cfg: cfg, deps: deps, node: []string{cfg.Node}, tracer: deps.Tracer.Tracer("punchclock/httpapi"),
		full:       newAtDoor(punch.Overloaded, "this node has more requests than it can answer; come again after Retry-After"),
		degraded:   newAtDoor(punch.Degraded, "punches are taken, and nothing else is served for now; come again after Retry-After"),
		buffers:    sync.Pool{New: func() any { return new(bytes.Buffer) }},
		reading:    make(chan struct{}, maxReads),
		logLimiter: rate.Sometimes{Interval: logInterval},
	}
	var err error
	if a.metrics, err = newInstruments(deps.Meter.Meter("punchclock/httpapi"), a.InFlight, a.memory.held.Load); err != nil {
		return nil, fmt.Errorf("public API: %w", err)
	}
	a.handler = a.mux()
	return a, nil
}

// ServeHTTP answers a request. The timeouts of the http.Server must bound the time that headers, bodies and answers take
// on the wire.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// InFlight returns how many punches have been accepted and not yet answered.
func (a *API) InFlight() int64 { return a.inFlight.Load() }
