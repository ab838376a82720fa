// Package adminapi is the HTTP API for operators, and its client: health, metrics, the state of the cluster,
// evacuations, gossip keys and profiles. It is meant for loopback or a private network. Health and metrics need no
// token. Everything else needs an operator's token: a profile shows the command line, and takes CPU time from punches.
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

// Config is what the API tells about the node.
type Config struct {
	Node    string // the node's name
	Region  string
	Version string // of the release
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Node == "":
		return errors.New("admin API: Node is empty")
	case c.Region == "":
		return errors.New("admin API: Region is empty")
	case c.Version == "":
		return errors.New("admin API: Version is empty")
	default:
		return nil
	}
}

// Deps is what the API shows and calls.
type Deps struct {
	// NotReady returns the reasons why the node must not be sent punches. The list is empty if the node is ready.
	NotReady func() []string
	Metrics  http.Handler
	// Operator returns nil for the token of an operator.
	Operator func(ctx context.Context, token string) error
	// Status returns the cluster as the node sees it.
	Status func(ctx context.Context) Status
	// Keyrings returns the gossip keys of every node, as far as the node knows them.
	Keyrings func() Keyrings
	// Evacuate sets an evacuation on all nodes and returns it as it holds now. The operator reads its errors.
	Evacuate func(ctx context.Context, e region.Evacuation, gossipOnly bool) (region.Evacuation, error)
	Log      *slog.Logger
	Clock    func() time.Time // says when a bounded evacuation ends
}

// Request is the body of PUT /regions/{region}/evacuation.
type Request struct {
	// For is how long the evacuation holds. With 0 it holds until the region is restored.
	For time.Duration `json:"for_nanoseconds,omitempty"`
	// GossipOnly tells the nodes without storing anything in the database. It needs For.
	GossipOnly bool `json:"gossip_only,omitempty"`
}

// Answer is the response to Request.
type Answer struct {
	Error      string             `json:"error,omitempty"`
	Evacuation *region.Evacuation `json:"evacuation,omitempty"`
}

// operatorTimeout bounds an evacuation: a write to a global table takes up to a second, and an operator waits.
const operatorTimeout = 10 * time.Second

// New returns the handler of the API.
func New(cfg Config, deps Deps) (http.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	about := map[string]string{"name": cfg.Node, "region": cfg.Region, "version": cfg.Version}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status, body := http.StatusOK, map[string]any{"status": "ready", "node": about}
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

	mux.HandleFunc("GET /status", deps.operator(func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, deps.Status(r.Context()))
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
	return mux, nil
}

// operator refuses callers without an operator's token.
func (d Deps) operator(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			answer(w, http.StatusUnauthorized, Answer{Error: "send an operator's token as Authorization: Bearer"})
			return
		}
		if err := d.Operator(r.Context(), token); err != nil {
			answer(w, http.StatusForbidden, Answer{Error: err.Error()})
			return
		}
		next(w, r)
	}
}

var (
	errNegative = errors.New("--for must not be negative")
	errUnbound  = errors.New("--gossip-only needs --for, at most 1h: a node that misses the restore would otherwise stay evacuated")
)

// ErrNotConfirmed is returned by Evacuate if the database did not answer: it may have stored the evacuation or not.
var ErrNotConfirmed = errors.New("the database did not confirm the change; repeat the command, " +
	"or bypass the database with --gossip-only, and --for=10m for an evacuation")

// maxGossipOnly bounds an evacuation that is not in the database.
const maxGossipOnly = time.Hour

func (d Deps) evacuate(w http.ResponseWriter, r *http.Request, on bool, req Request) {
	name, err := region.ParseName(r.PathValue("region"))
	switch {
	case err != nil:
	case on && req.For < 0:
		err = errNegative
	case on && req.GossipOnly && (req.For == 0 || req.For > maxGossipOnly):
		err = errUnbound
	}
	if err != nil {
		answer(w, http.StatusBadRequest, Answer{Error: err.Error()})
		return
	}
	e := region.Evacuation{Region: name, On: on}
	if req.For > 0 {
		// Whole seconds read better, and the time is never shorter than the operator asked for.
		e.Until = d.Clock().Add(req.For + time.Second - 1).UTC().Truncate(time.Second)
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
	d.Log.WarnContext(r.Context(), "an operator changed an evacuation",
		"target", string(e.Region), "evacuated", e.On, "until", e.Until, "version", e.Version, "gossip_only", req.GossipOnly)
	answer(w, http.StatusOK, Answer{Evacuation: &e})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // a balancer must see the present state
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails if the client is gone
}
