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

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// route is one operation of openapi.yaml.
type route struct {
	method, path string
	open         bool // needs no token
	quiet        bool // asked all the time by machines: leaves no span
	deadline     time.Duration
	answer       func(*call) (reply, error)
}

func (a *API) routes() []route {
	return []route{
		{method: http.MethodPost, path: "/v1/punches", deadline: a.cfg.Deadline, answer: a.record},
		{method: http.MethodPost, path: "/v1/punches/batch", deadline: a.cfg.Deadline, answer: a.recordBatch},
		{method: http.MethodGet, path: "/v1/employees/{employee}/punches", deadline: readDeadline, answer: a.bounded(a.list)},
		{method: http.MethodGet, path: "/v1/employees/{employee}/punches/{id}", deadline: readDeadline, answer: a.bounded(a.find)},
		{method: http.MethodGet, path: "/v1/regions", deadline: readDeadline, answer: a.regions},
		{method: http.MethodGet, path: "/readyz", open: true, quiet: true, deadline: readDeadline, answer: a.ready},
		{method: http.MethodGet, path: "/openapi.yaml", open: true, deadline: readDeadline, answer: document},
	}
}

// mux joins the routes with the refusals of other methods and paths, which
// net/http would answer in plain text.
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
		mux.Handle(path, a.serve(route{path: path, open: true, deadline: readDeadline, answer: func(c *call) (reply, error) {
			c.w.Header().Set("Allow", allow)
			return reply{}, punch.Errorf(punch.MethodNotAllowed, "this path answers %s only", allow)
		}}))
	}
	mux.Handle("/", a.serve(route{path: "/", open: true, deadline: readDeadline, answer: func(*call) (reply, error) {
		return reply{}, punch.Errorf(punch.NotFound, "there is nothing at this path; see /openapi.yaml")
	}}))
	return mux
}

// call is one request on its way.
type call struct {
	ctx    context.Context // with the route's deadline
	w      http.ResponseWriter
	r      *http.Request
	caller auth.Identity
	at     time.Time // when it arrived, by the node's clock
	// buf holds the request's body until that is decoded, and then the
	// response's.
	buf *bytes.Buffer
}

// reply is what a route answers; the body is in the call's buf.
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
		start := time.Now() // for the duration: monotonic, whatever the node's clock does
		ctx, span := r.Context(), trace.Span(noop.Span{})
		if !rt.quiet {
			ctx, span = a.startSpan(r, pattern, rt.path)
		}
		ctx, cancel := context.WithTimeout(ctx, rt.deadline)
		defer cancel()
		c := &call{ctx: ctx, w: w, r: r, at: a.deps.Clock(), buf: a.buffer()}
		defer a.release(c.buf)

		// What stays when the route panics; net/http then ends the connection.
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
			refusal := a.explain(ctx, err)
			answer, outcome = c.refuse(refusal), outcomeOf(ctx, refusal.Code)
		} else {
			outcome = outcomeOK
		}
		status = answer.status
		a.write(c, answer)
	})
}

func (a *API) answer(rt route, c *call) (reply, error) {
	if !rt.open {
		var err error
		if c.caller, err = a.authenticate(c); err != nil {
			return reply{}, err
		}
	}
	return rt.answer(c)
}

func (a *API) authenticate(c *call) (auth.Identity, error) {
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	caller, err := a.deps.Auth.Verify(c.ctx, strings.TrimSpace(token))
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

// bounded refuses at once what would only wait in vain.
func (a *API) bounded(answer func(*call) (reply, error)) func(*call) (reply, error) {
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

// Headers that never change. The values are shared by all responses.
var (
	noStore     = []string{"no-store"} // when somebody worked is nobody else's business
	noSniff     = []string{"nosniff"}
	jsonContent = []string{"application/json"}
	// closeConnection ends an HTTP/1.1 connection after the answer. net/http sends GOAWAY instead on HTTP/2.
	closeConnection = []string{"close"}
)

func (a *API) write(c *call, answer reply) {
	h := c.w.Header()
	h["Punchclock-Node"] = a.node
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	h["Content-Type"] = jsonContent
	if a.deps.Draining() || a.deps.ClockWrong() {
		h["Connection"] = closeConnection
	}
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
	_, _ = c.w.Write(c.buf.Bytes()) // a caller that left has no use for an error
}

// explain makes err fit for the caller and logs, now and then, what the caller
// is not told.
func (a *API) explain(ctx context.Context, err error) *punch.Error {
	refusal := punch.AsError(err)
	_, known := errors.AsType[*punch.Error](err)
	if !known || (refusal.Err != nil && !refusal.Code.Final()) {
		if !clientGone(ctx) {
			a.seldom.Do(func() {
				a.deps.Log.WarnContext(ctx, "request failed", "code", refusal.Code, "error", err)
			})
		}
	}
	if _, told := refusals[refusal.Code]; !told { // a word between nodes, or a newer node's
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
	if b.Cap() <= keptBuffer {
		a.buffers.Put(b)
	}
}
