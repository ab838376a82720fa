package httpapi

import (
	"math"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/tracing"
)

// refusals has the status and the title of each code (RFC 9457).
var refusals = map[punch.Code]struct {
	status int
	title  string
}{
	punch.Invalid:          {http.StatusBadRequest, "A field is not valid"},
	punch.Unauthenticated:  {http.StatusUnauthorized, "The token is missing or does not hold"},
	punch.Forbidden:        {http.StatusForbidden, "The token does not allow this"},
	punch.UnknownCompany:   {http.StatusNotFound, "The company is not known"},
	punch.NotFound:         {http.StatusNotFound, "Not found"},
	punch.MethodNotAllowed: {http.StatusMethodNotAllowed, "The method is not allowed here"},
	punch.Conflict:         {http.StatusConflict, "The id is used for another punch"},
	punch.TooLarge:         {http.StatusRequestEntityTooLarge, "The body is too large"},
	punch.UnsupportedMedia: {http.StatusUnsupportedMediaType, "The body must be JSON"},
	punch.ClockAhead:       {http.StatusUnprocessableEntity, "The device's clock is ahead"},
	punch.RateLimited:      {http.StatusTooManyRequests, "Too many requests"},
	punch.Overloaded:       {http.StatusServiceUnavailable, "The service is overloaded"},
	punch.Degraded:         {http.StatusServiceUnavailable, "The service takes punches only"},
	punch.Suspended:        {http.StatusServiceUnavailable, "The company is suspended"},
	punch.Unavailable:      {http.StatusServiceUnavailable, "The service is unavailable"},
}

// wireProblem is the body of every refusal (RFC 9457). It never holds addresses of nodes, SQL or stack traces.
type wireProblem struct {
	Type       string     `json:"type"`
	Title      string     `json:"title"`
	Status     int        `json:"status"`
	Detail     string     `json:"detail"`
	Code       punch.Code `json:"code"`
	Final      bool       `json:"final"`
	Field      string     `json:"field,omitempty"`
	RetryAfter int64      `json:"retry_after,omitzero"` // seconds
	TraceID    string     `json:"trace_id,omitempty"`
}

// problemType is the prefix of a problem's type. It never changes.
const problemType = "urn:punchclock:problem:"

// newProblem expects an error that toProblem returned.
func newProblem(e *punch.Error, traceID string) wireProblem {
	detail := e.Message
	if e.Field != "" { // people read only the detail
		detail = e.Field + ": " + detail
	}
	return wireProblem{
		Type: problemType + string(e.Code), Title: refusals[e.Code].title, Status: refusals[e.Code].status,
		Detail: detail, Code: e.Code, Final: e.Code.Final(), Field: e.Field,
		RetryAfter: retryAfter(e), TraceID: traceID,
	}
}

// retryAfter returns whole seconds, rounded up, for a refusal after which the same id may be recorded. It returns 0 for
// others: time alone does not make a wrong token right. It also returns 0 if the client should ask another node at once.
func retryAfter(e *punch.Error) int64 {
	if e.RetryAfter == elsewhere {
		return 0
	}
	switch refusals[e.Code].status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusUnprocessableEntity:
		return max(1, int64(math.Ceil(e.RetryAfter.Seconds())))
	default:
		return 0
	}
}

// refuse writes the problem into the call's buffer.
func (c *call) refuse(e *punch.Error) reply {
	problem := newProblem(e, tracing.TraceID(c.ctx))
	if problem.RetryAfter > 0 || e.RetryAfter == elsewhere {
		c.w.Header().Set("Retry-After", strconv.FormatInt(problem.RetryAfter, 10))
	}
	c.buf.Reset()
	c.buf.Write(appendProblem(c.buf.AvailableBuffer(), problem))
	return reply{status: problem.Status, contentType: "application/problem+json"}
}

func appendProblem(b []byte, problem wireProblem) []byte {
	// A message that quotes a caller's invalid UTF-8 must not fail the answer.
	text, err := json.Marshal(problem, jsontext.AllowInvalidUTF8(true))
	if err != nil { // impossible: every field is a string, a number or a bool
		panic(err)
	}
	return append(b, text...)
}
