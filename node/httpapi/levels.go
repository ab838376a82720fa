package httpapi

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/punch"
)

// Levels says what the node serves at its present level of degradation, and when stored punches should be uploaded.
type Levels interface {
	Serves(class admission.Class) (retryAfter time.Duration, ok bool)
	// UploadAfter returns 0 for at once. refused says that the answer refuses a request because the node is full.
	UploadAfter(refused bool) time.Duration
}

// served refuses a request whose class is not served at the node's level. Like the gate, it does so before the request
// has cost anything.
func (a *API) served(rt *route, metrics *routeMetrics, w http.ResponseWriter, r *http.Request) bool {
	wait, ok := a.deps.Levels.Serves(rt.class)
	if !ok {
		a.refuseAtDoor(&a.degraded, wait, metrics, w, r, time.Now())
	}
	return ok
}

// atDoor are the answers of one code, which are made once: one for each number of seconds.
type atDoor struct {
	code    punch.Code
	answers []refusal
}

func newAtDoor(code punch.Code, detail string) atDoor { return atDoor{code, newRefusals(code, detail)} }

// refuseAtDoor answers a request that is not let in.
func (a *API) refuseAtDoor(
	door *atDoor, wait time.Duration, metrics *routeMetrics, w http.ResponseWriter, r *http.Request, start time.Time,
) {
	answer := door.answers[min(len(door.answers)-1, int(math.Ceil(wait.Seconds())))]
	h := w.Header()
	a.spreadUploads(h, door.code == punch.Overloaded)
	a.setCommonHeaders(h)
	h["Content-Type"] = problemContent
	h["Retry-After"] = answer.retryAfter
	h["Content-Length"] = answer.length
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(answer.body) // an error means that the caller has left
	metrics.record(r.Context(), r, string(door.code), http.StatusServiceUnavailable, time.Since(start))
}

const uploadAfter = "Punchclock-Upload-After"

// spreadUploads asks a device that holds stored punches to upload them later. It says nothing to a person who punches.
func (a *API) spreadUploads(h http.Header, refused bool) {
	if len(h[uploadAfter]) > 0 { // this answer has its time already
		return
	}
	if after := a.deps.Levels.UploadAfter(refused); after > 0 {
		h[uploadAfter] = []string{strconv.Itoa(int(math.Ceil(after.Seconds())))}
	}
}
