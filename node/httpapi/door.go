package httpapi

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/punch"
)

// Gate decides whether a request may enter. Leave must follow an Enter that was granted, with the same n.
type Gate interface {
	Enter(class admission.Class, company string, n int) (retryAfter time.Duration, ok bool)
	Leave(n int)
}

// itemBytes and itemCost weigh a batch before its body is read. A stored punch has about 300 bytes. It costs less
// than a punch that comes alone: a quarter is an estimate.
const (
	itemBytes = 300
	itemCost  = 0.25
)

// weight estimates what a request costs, in punches that come alone.
func weight(class admission.Class, r *http.Request) int {
	if class != admission.Stored || r.ContentLength <= 0 {
		return 1
	}
	return 1 + int(itemCost*float64(r.ContentLength)/itemBytes)
}

// enter asks the gate for a request of a gated route. A refused request gets its answer here, before its token is
// verified and its body is read. A refusal must cost far less than a punch, or refusing would itself be the overload.
func (a *API) enter(rt *route, metrics *routeMetrics, w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	start := time.Now()
	n := weight(rt.class, r)
	wait, ok := a.deps.Gate.Enter(rt.class, a.deps.Auth.CompanyHint(bearer(r)), n)
	if ok {
		return func() { a.deps.Gate.Leave(n) }, true
	}
	answer := a.refusals[min(len(a.refusals)-1, int(math.Ceil(wait.Seconds())))]
	h := w.Header()
	a.setCommonHeaders(h)
	h["Content-Type"] = problemContent
	h["Retry-After"] = answer.retryAfter
	h["Content-Length"] = answer.length
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(answer.body) // an error means that the caller has left
	metrics.record(r.Context(), r, string(punch.Overloaded), http.StatusServiceUnavailable, time.Since(start))
	return nil, false
}

// refusal is the answer of a full node. There is one for each number of seconds, made once.
type refusal struct {
	retryAfter, length []string
	body               []byte
}

// longestRetryAfter is the most seconds that a full node asks for: twice the longest pause, for outboxes, with jitter.
const longestRetryAfter = 180

func newRefusals() []refusal {
	list := make([]refusal, longestRetryAfter+1)
	for seconds := range list {
		after := time.Duration(max(1, seconds)) * time.Second
		e := punch.Retryable(punch.Overloaded, after, "this node has more requests than it can answer; come again after Retry-After", nil)
		body := appendProblem(nil, newProblem(e, ""))
		list[seconds] = refusal{
			retryAfter: []string{strconv.FormatInt(retryAfter(e), 10)}, length: []string{strconv.Itoa(len(body))}, body: body,
		}
	}
	return list
}

// bearer returns the request's token, "" when there is none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
