// Package httpapi is the public HTTP API: it decodes what callers send, asks
// the parts that know, and says the answer in HTTP. It alone knows statuses.
// It neither decides where a punch goes nor stores anything, and openapi.yaml
// beside it is the contract that its tests hold it to.
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

// Config is how the API presents itself and what it allows.
type Config struct {
	Node     string        // this node's unique name, shown in a response header
	Region   region.Name   // stamped on punches as their entry region
	Deadline time.Duration // how long a punch, or a batch of them, may take
	MaxBody  int64         // largest request body in bytes
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Node == "":
		return errors.New("public API: Node is empty")
	case c.Region == "":
		return errors.New("public API: Region is empty")
	case c.Deadline <= 0:
		return fmt.Errorf("public API: Deadline must be more than 0, is %s", c.Deadline)
	case c.MaxBody <= 0:
		return fmt.Errorf("public API: MaxBody must be more than 0, is %d", c.MaxBody)
	default:
		return nil
	}
}

// Authenticator tells who holds a token. Its errors are *punch.Error.
type Authenticator interface {
	Verify(ctx context.Context, token string) (auth.Identity, error)
}

// Reader reads punches. Its errors are *punch.Error; any other means
// Unavailable.
type Reader interface {
	// Find returns the receipt of a punch, NotFound when there is none.
	Find(ctx context.Context, key punch.Key) (punch.Receipt, error)
	// List returns at most q.Limit receipts in the order of q.
	List(ctx context.Context, q punch.Query) ([]punch.Receipt, error)
}

// Deps is what the API asks and reports to.
type Deps struct {
	Recorder punch.Recorder
	Reader   Reader
	Auth     Authenticator
	Cluster  *region.Cluster
	Ready    func() bool // reports whether the node may be sent punches
	// Draining reports whether the node has begun to drain, or its region is evacuated. Every answer then ends its
	// connection: a client must choose another node before this one closes the connection under its next request.
	Draining func() bool
	// ClockWrong reports whether the node's clock is known to differ from the database's by more than is allowed, or was
	// not compared yet. Punches are then refused with Unavailable: see checkClock.
	ClockWrong func() bool
	Clock      func() time.Time // the node's clock
	Log        *slog.Logger
	Meter      metric.MeterProvider
	Tracer     trace.TracerProvider
}

const (
	// readDeadline bounds a read: nobody waits longer for a list, and reads
	// must not hold connections that punches in a queue could use.
	readDeadline = 5 * time.Second
	// readsAtOnce bounds the reads that wait for the few connections there
	// are for them; more could not be answered within readDeadline anyway.
	readsAtOnce = 256
	// complaintInterval is the least time between two log lines about
	// failing requests: an outage fails thousands a second, for one cause.
	complaintInterval = time.Second
	// keptBuffer is the largest buffer that is kept for the next request:
	// room for a page of receipts, while a full batch's would pile up.
	keptBuffer = 512 << 10
)

// API is the public HTTP API, an http.Handler.
type API struct {
	cfg     Config
	deps    Deps
	handler http.Handler
	metrics *instruments
	tracer  trace.Tracer
	node    []string // the header's value, made once

	buffers  sync.Pool     // of *bytes.Buffer
	reading  chan struct{} // holds one per read under way
	inFlight atomic.Int64  // punches
	seldom   rate.Sometimes
}

// New makes the API.
func New(cfg Config, deps Deps) (*API, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &API{
		cfg: cfg, deps: deps, node: []string{cfg.Node}, tracer: deps.Tracer.Tracer("punchclock/httpapi"),
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
		reading: make(chan struct{}, readsAtOnce),
		seldom:  rate.Sometimes{Interval: complaintInterval},
	}
	var err error
	if a.metrics, err = newInstruments(deps.Meter.Meter("punchclock/httpapi"), a.InFlight); err != nil {
		return nil, fmt.Errorf("public API: %w", err)
	}
	a.handler = a.mux()
	return a, nil
}

// ServeHTTP answers a request. It bounds everything but the time that headers,
// bodies and answers take on the wire: that is for the server's time-outs.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// InFlight returns how many punches have been accepted and not yet answered.
func (a *API) InFlight() int64 { return a.inFlight.Load() }
