package httpapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// route is one operation of openapi.yaml.
type route struct {
	method, path string
	anonymous    bool // needs no token
	noSpan       bool // health checkers ask all the time
	gated        bool // may be refused by the gate, under class
	class        admission.Class
	deadline     time.Duration
	answer       func(*call) (reply, error)
}

func (a *API) routes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/punches", gated: true, class: admission.Interactive, deadline: a.cfg.PunchTimeout, answer: a.record},
		{method: http.MethodPost, path: "/v1/punches/batch", gated: true, class: admission.Stored, deadline: a.cfg.PunchTimeout, answer: a.recordBatch},
		{method: http.MethodGet, path: "/v1/employees/{employee}/punches", gated: true, class: admission.Read, deadline: readDeadline, answer: a.limitReads(a.list)},
		{method: http.MethodGet, path: "/v1/employees/{employee}/punches/{id}", gated: true, class: admission.Read, deadline: readDeadline, answer: a.limitReads(a.find)},
		{method: http.MethodGet, path: "/v1/regions", deadline: readDeadline, answer: a.regions},
		{method: http.MethodGet, path: "/readyz", anonymous: true, noSpan: true, deadline: readDeadline, answer: a.ready},
		{method: http.MethodGet, path: "/openapi.yaml", anonymous: true, deadline: readDeadline, answer: serveOpenAPI},
	}
}

// mux joins the routes and refuses other methods and paths. net/http would refuse them in plain text.
func (a *API) mux() *http.ServeMux {
	mux := http.NewServeMux()
	allowed := make(map[string]string)
	for _, rt := range a.routes() {
		mux.Handle(rt.method+" "+rt.path, a.serve(rt))
		allow := rt.method
		if rt.method == http.MethodGet {
			allow += ", " + http.MethodHead
		}
		allowed[rt.path] = allow
	}
	for path, allow := range allowed {
		mux.Handle(path, a.serve(route{path: path, anonymous: true, deadline: readDeadline, answer: func(c *call) (reply, error) {
			c.w.Header().Set("Allow", allow)
			return reply{}, punch.Errorf(punch.MethodNotAllowed, "this path answers %s only", allow)
		}}))
	}
	mux.Handle("/", a.serve(route{path: "/", anonymous: true, deadline: readDeadline, answer: func(*call) (reply, error) {
		return reply{}, punch.Errorf(punch.NotFound, "there is nothing at this path; see /openapi.yaml")
	}}))
	return mux
}

// call is one request under way.
type call struct {
	ctx    context.Context // with the route's deadline
	w      http.ResponseWriter
	r      *http.Request
	caller auth.Identity
	at     time.Time // when it arrived, by the node's clock
	// buf holds the request's body until it is decoded, and then the response's body.
	buf *bytes.Buffer
}

// reply is the answer of a route. Its body is in the call's buf.
type reply struct {
	status      int
	contentType string // application/json when empty
	location    string
	home        string // home region, when known
}

func (a *API) serve(rt route) http.Handler {
	// The pattern and never the path: callers must not make up span names.
	pattern := strings.TrimSpace(rt.method + " " + rt.path)
	metrics := a.metrics.forRoute(rt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rt.gated {
			if !a.served(&rt, metrics, w, r) {
				return
			}
			leave, ok := a.enter(&rt, metrics, w, r)
			if !ok {
				return
			}
			defer leave()
		}
		start := time.Now() // monotonic, whatever the node's clock does
		ctx, span := r.Context(), trace.Span(noop.Span{})
		if !rt.noSpan {
			ctx, span = a.startSpan(r, pattern, rt.path)
		}
		ctx, cancel := context.WithTimeout(ctx, rt.deadline)
		defer cancel()
		c := &call{ctx: ctx, w: w, r: r, at: a.deps.Clock(), buf: a.buffer()}
		defer a.release(c.buf)

		// These values stay when the route panics. net/http then closes the connection.
		status, outcome := http.StatusInternalServerError, string(punch.Unavailable)
		defer func() {
			endSpan(span, status)
			if outcome == outcomeGone { // the status reached no caller
				status = 0
			}
			metrics.record(ctx, r, outcome, status, time.Since(start))
		}()
		answer, err := a.answer(rt, c)
		if err != nil {
			refusal := a.toProblem(ctx, err)
			answer, outcome = c.refuse(refusal), outcomeOf(ctx, refusal.Code)
			a.spreadUploads(w.Header(), refusal.Code == punch.Overloaded)
		} else {
			outcome = outcomeOK
		}
		status = answer.status
		a.write(c, answer)
	})
}

func (a *API) answer(rt route, c *call) (reply, error) {
	if !rt.anonymous {
		var err error
		if c.caller, err = a.authenticate(c); err != nil {
			return reply{}, err
		}
	}
	return rt.answer(c)
}

func (a *API) authenticate(c *call) (auth.Identity, error) {
	token := bearer(c.r)
	caller, err := a.deps.Auth.Verify(c.ctx, token)
	if punch.CodeOf(err) == punch.Unauthenticated {
		// By a wrong clock good tokens have expired, or are not valid yet.
		if wrong := a.checkClock(); wrong != nil && token != "" {
			return caller, wrong
		}
		challenge := `Bearer realm="punchclock"`
		if token != "" {
			challenge += `, error="invalid_token"` // RFC 6750, section 3.1
		}
		c.w.Header().Set("WWW-Authenticate", challenge)
	}
	if err == nil && tracing.Sampled(c.ctx) {
		trace.SpanFromContext(c.ctx).SetAttributes(tracing.Company.String(caller.Company))
	}
	return caller, err
}

// limitReads refuses at once the reads that could not be answered in time.
func (a *API) limitReads(answer func(*call) (reply, error)) func(*call) (reply, error) {
	return func(c *call) (reply, error) {
		select {
		case a.reading <- struct{}{}:
			defer func() { <-a.reading }()
			return answer(c)
		default:
			return reply{}, punch.Retryable(punch.Overloaded, time.Second, "too many reads at once", nil)
		}
	}
}

// Header values that all responses share.
var (
	noStore        = []string{"no-store"} // working hours are private
	noSniff        = []string{"nosniff"}
	jsonContent    = []string{"application/json"}
	problemContent = []string{"application/problem+json"}
	// closeConnection ends an HTTP/1.1 connection after the answer. net/http sends GOAWAY instead on HTTP/2.
	closeConnection = []string{"close"}
)

func (a *API) setCommonHeaders(h http.Header) {
	h["Punchclock-Node"] = a.node
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	a.spreadUploads(h, false)
	if a.deps.Draining() || a.deps.ClockWrong() {
		h["Connection"] = closeConnection
	}
}

func (a *API) write(c *call, answer reply) {
	h := c.w.Header()
	a.setCommonHeaders(h)
	h["Content-Type"] = jsonContent
	if answer.contentType != "" {
		h["Content-Type"] = []string{answer.contentType}
	}
	if answer.home != "" {
		h["Punchclock-Home-Region"] = []string{answer.home}
	}
	if answer.location != "" {
		h["Location"] = []string{answer.location}
	}
	c.w.WriteHeader(answer.status)
	_, _ = c.w.Write(c.buf.Bytes()) // an error means that the caller has left
}

// toProblem returns the error that the caller may see. From time to time it logs the cause, which the caller must not see.
func (a *API) toProblem(ctx context.Context, err error) *punch.Error {
	refusal := punch.AsError(err)
	_, coded := errors.AsType[*punch.Error](err)
	if !coded || (refusal.Err != nil && !refusal.Code.Final()) {
		if !clientGone(ctx) {
			a.logLimiter.Do(func() {
				a.deps.Log.WarnContext(ctx, "request failed", "code", refusal.Code, "error", err)
			})
		}
	}
	if _, known := refusals[refusal.Code]; !known { // a code between nodes, or a code of a newer release
		refusal = punch.Retryable(punch.Unavailable, refusal.RetryAfter, "the punch could not be confirmed; send it again with the same id", err)
	}
	if tracing.Sampled(ctx) {
		trace.SpanFromContext(ctx).SetAttributes(tracing.Code.String(string(refusal.Code)))
	}
	return refusal
}

// clientGone reports whether the caller left before it had its answer.
func clientGone(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

func (a *API) buffer() *bytes.Buffer {
	b := a.buffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func (a *API) release(b *bytes.Buffer) {
	if b.Cap() <= maxKeptBuffer {
		a.buffers.Put(b)
	}
}
