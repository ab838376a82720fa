// Package adminapi is the operator's listener: is the node alive, may it be sent
// punches and if not why, what it believes of the cluster, the switches, its
// metrics and its profiles; and the client for them. It is meant for loopback
// or a private network. Health and metrics ask nobody who they are; all else
// takes an operator's token: a profile shows the command line, and costs time
// that punches need.
package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/punchclock/punchclock/region"
)

// Deps is what the listener shows and does.
type Deps struct {
	// NotReady returns why the node must not be sent punches, empty when it
	// may be.
	NotReady func() []string
	Metrics  http.Handler
	// About is shown with the readiness: name, region, version.
	About map[string]string
	// Operator returns nil for the token of an operator.
	Operator func(ctx context.Context, token string) error
	// Status returns what the node believes of the cluster.
	Status func() Status
	// Keyrings returns what the node knows of every node's gossip keys.
	Keyrings func() Keyrings
	// Evacuate sets a switch everywhere and returns it as it holds now.
	// Its errors are refusals that the operator may read.
	Evacuate func(ctx context.Context, e region.Evacuation, gossipOnly bool) (region.Evacuation, error)
	Log      *slog.Logger
}

// Request is the body of PUT /regions/{region}/evacuation.
type Request struct {
	// For bounds the evacuation; 0 holds until it is restored.
	For time.Duration `json:"for_nanoseconds,omitempty"`
	// GossipOnly tells the nodes without the database. It needs a bound.
	GossipOnly bool `json:"gossip_only,omitempty"`
}

// Answer is what an operator's request gets.
type Answer struct {
	Error      string             `json:"error,omitempty"`
	Evacuation *region.Evacuation `json:"evacuation,omitempty"`
}

// operatorTimeout bounds a switch: writing a global table takes up to a second,
// and an operator waits.
const operatorTimeout = 10 * time.Second

// New returns the handler.
func New(deps Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status, body := http.StatusOK, map[string]any{"status": "ready", "node": deps.About}
		if reasons := deps.NotReady(); len(reasons) > 0 {
			status = http.StatusServiceUnavailable
			body["status"], body["reasons"] = "not ready", reasons
		}
		answer(w, status, body)
	})
	mux.Handle("GET /metrics", deps.Metrics)
	for path, profile := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.HandleFunc("/debug/pprof/"+path, deps.operator(profile))
	}

	mux.HandleFunc("GET /status", deps.operator(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, deps.Status())
	}))
	mux.HandleFunc("GET /gossip/keys", deps.operator(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, deps.Keyrings())
	}))
	mux.HandleFunc("PUT /regions/{region}/evacuation", deps.operator(func(w http.ResponseWriter, r *http.Request) {
		var req Request
		body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)) // two fields
		body.DisallowUnknownFields()
		if err := body.Decode(&req); err != nil {
			answer(w, http.StatusBadRequest, Answer{Error: "the body must be JSON with for_nanoseconds and gossip_only"})
			return
		}
		deps.evacuate(w, r, true, req)
	}))
	mux.HandleFunc("DELETE /regions/{region}/evacuation", deps.operator(func(w http.ResponseWriter, r *http.Request) {
		deps.evacuate(w, r, false, Request{GossipOnly: r.URL.Query().Has("gossip_only")})
	}))
	return mux
}

// operator lets only operators through.
func (d Deps) operator(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			answer(w, http.StatusUnauthorized, Answer{Error: "an operator's token is needed"})
			return
		}
		if err := d.Operator(r.Context(), token); err != nil {
			answer(w, http.StatusForbidden, Answer{Error: err.Error()})
			return
		}
		next(w, r)
	}
}

var errBound = errors.New("through gossip alone an evacuation needs a bound of at most an hour: nothing else would end it on a node that misses its restoration")

// ErrNotConfirmed is what Evacuate returns when the database did not answer: the
// switch may be there or not.
var ErrNotConfirmed = errors.New("the database did not confirm the switch; set it again, or for a bounded time through gossip alone: --gossip-only, an evacuation with --for 10m")

// maxGossipOnly bounds an evacuation that no database knows of.
const maxGossipOnly = time.Hour

func (d Deps) evacuate(w http.ResponseWriter, r *http.Request, on bool, req Request) {
	name, err := region.ParseName(r.PathValue("region"))
	if err == nil && on && (req.For < 0 || req.GossipOnly && (req.For == 0 || req.For > maxGossipOnly)) {
		err = errBound
	}
	if err != nil {
		answer(w, http.StatusBadRequest, Answer{Error: err.Error()})
		return
	}
	e := region.Evacuation{Region: name, On: on}
	if req.For > 0 {
		// Whole seconds, as gossip carries them, and not shorter than asked.
		e.Until = time.Now().Add(req.For + time.Second - 1).UTC().Truncate(time.Second)
	}
	ctx, cancel := context.WithTimeout(r.Context(), operatorTimeout)
	defer cancel()
	e, err = d.Evacuate(ctx, e, req.GossipOnly)
	if errors.Is(err, ErrNotConfirmed) {
		answer(w, http.StatusServiceUnavailable, Answer{Error: err.Error()})
		return
	}
	if err != nil {
		answer(w, http.StatusConflict, Answer{Error: err.Error()})
		return
	}
	d.Log.WarnContext(r.Context(), "an operator switched a region", "target", string(e.Region), "evacuated", e.On, "until", e.Until, "version", e.Version, "gossip_only", req.GossipOnly)
	answer(w, http.StatusOK, Answer{Evacuation: &e})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // a balancer must see this moment
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone; there is nobody else to tell
}
