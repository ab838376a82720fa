package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/punch"
)

// Gate decides whether a request may enter. Leave must follow an Enter that was granted, with the same n.
type Gate interface {
	Enter(class admission.Class, company string, n int, waited time.Duration) (retryAfter time.Duration, ok bool)
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
// A caller that has left gets no answer and costs no work: under overload such requests would take the whole node.
func (a *API) enter(rt *route, metrics *routeMetrics, w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	start := time.Now()
	waited, left := admission.Unknown, false
	if a.deps.Waited != nil {
		waited, left = a.deps.Waited(r.Context())
	}
	if left {
		metrics.record(r.Context(), r, outcomeGone, 0, waited)
		panic(http.ErrAbortHandler) // net/http closes the connection without a word
	}
	n := weight(rt.class, r)
	wait, ok := a.deps.Gate.Enter(rt.class, a.deps.Auth.CompanyHint(bearer(r)), n, waited)
	if ok {
		return func() { a.deps.Gate.Leave(n) }, true
	}
	a.refuseAtDoor(&a.full, wait, metrics, w, r, start)
	return nil, false
}

// refusal is an answer at the door.
type refusal struct {
	retryAfter, length []string
	body               []byte
}

// longestRetryAfter is the most seconds that an answer at the door asks for: twice the longest pause, for outboxes, with
// jitter.
const longestRetryAfter = 180

func newRefusals(code punch.Code, detail string) []refusal {
	list := make([]refusal, longestRetryAfter+1)
	for seconds := range list {
		after := time.Duration(max(1, seconds)) * time.Second
		e := punch.Retryable(code, after, detail, nil)
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
