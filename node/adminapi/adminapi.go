// Package adminapi is the HTTP API for operators, and its client: health, metrics, the state of the cluster,
// evacuations, levels of degradation, gossip keys and profiles. It is meant for loopback or a private network. Health and
// metrics need no token. Everything else needs an operator's token: a profile shows the command line, and takes CPU time
// from punches.
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
	// Set sets a switch on all nodes and returns what holds now. A switch without a region is set for every region, and
	// each then has a switch of its own. The operator reads its errors.
	Set   func(ctx context.Context, s region.Switch, gossipOnly bool) ([]region.Switch, error)
	Log   *slog.Logger
	Clock func() time.Time // says when a bounded switch ends
}

// Request is the body of PUT /regions/{region}/evacuation.
type Request struct {
	// For is how long the switch holds. With 0 it holds until the operator sets it back.
	For time.Duration `json:"for_nanoseconds,omitempty"`
	// GossipOnly tells the nodes without storing anything in the database. It needs For.
	GossipOnly bool `json:"gossip_only,omitempty"`
}

// DegradeRequest is the body of PUT /degradation.
type DegradeRequest struct {
	Request
	Level  uint8  `json:"level"`            // 0 is full service
	Region string `json:"region,omitempty"` // every region when empty
}

// Answer is the response to a change of switches.
type Answer struct {
	Error    string          `json:"error,omitempty"`
	Switches []region.Switch `json:"switches,omitempty"`
}

// operatorTimeout bounds a change: a write to a global table takes up to a second, and an operator waits.
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
		if decode(w, r, &req) {
			deps.set(w, r, region.Switch{Kind: region.Evacuation, Level: 1}, r.PathValue("region"), req)
		}
	}))
	mux.HandleFunc("DELETE /regions/{region}/evacuation", deps.operator(func(w http.ResponseWriter, r *http.Request) {
		deps.set(w, r, region.Switch{Kind: region.Evacuation}, r.PathValue("region"), Request{GossipOnly: r.URL.Query().Has("gossip_only")})
	}))
	mux.HandleFunc("PUT /degradation", deps.operator(func(w http.ResponseWriter, r *http.Request) {
		var req DegradeRequest
		if decode(w, r, &req) {
			deps.set(w, r, region.Switch{Kind: region.Degradation, Level: req.Level}, req.Region, req.Request)
		}
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

// decode reads the body of a change, or answers that it is not valid.
func decode(w http.ResponseWriter, r *http.Request, req any) bool {
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)) // four fields
	body.DisallowUnknownFields()
	err := body.Decode(req)
	if err != nil {
		answer(w, http.StatusBadRequest, Answer{Error: "the body must be JSON with the fields of this change: " + err.Error()})
	}
	return err == nil
}

var (
	errNegative = errors.New("--for must not be negative")
	errUnbound  = errors.New("--gossip-only needs --for, at most 1h: a node that misses the way back would otherwise stay as it is")
)

// ErrNotConfirmed is returned by Set if the database did not answer: it may have stored the switch or not.
var ErrNotConfirmed = errors.New("the database did not confirm the change; repeat the command, " +
	"or bypass the database with --gossip-only, and --for=10m unless the change ends something")

// maxGossipOnly bounds a switch that is not in the database.
const maxGossipOnly = time.Hour

func (d Deps) set(w http.ResponseWriter, r *http.Request, s region.Switch, name string, req Request) {
	var err error
	if name != "" || s.Kind == region.Evacuation {
		s.Region, err = region.ParseName(name)
	}
	switch {
	case err != nil:
	case req.For < 0:
		err = errNegative
	case s.Level > 0 && req.GossipOnly && (req.For == 0 || req.For > maxGossipOnly):
		err = errUnbound
	}
	if err != nil {
		answer(w, http.StatusBadRequest, Answer{Error: err.Error()})
		return
	}
	if s.Level > 0 && req.For > 0 {
		// Whole seconds read better, and the time is never shorter than the operator asked for.
		s.Until = d.Clock().Add(req.For + time.Second - 1).UTC().Truncate(time.Second)
	}
	ctx, cancel := context.WithTimeout(r.Context(), operatorTimeout)
	defer cancel()
	set, err := d.Set(ctx, s, req.GossipOnly)
	if errors.Is(err, ErrNotConfirmed) {
		answer(w, http.StatusServiceUnavailable, Answer{Error: err.Error()})
		return
	}
	if err != nil {
		answer(w, http.StatusConflict, Answer{Error: err.Error()})
		return
	}
	for _, s := range set {
		d.Log.WarnContext(r.Context(), "an operator set a switch", "kind", s.Kind.String(),
			"target", string(s.Region), "level", s.Level, "until", s.Until, "version", s.Version, "gossip_only", req.GossipOnly)
	}
	answer(w, http.StatusOK, Answer{Switches: set})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // a balancer must see the present state
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails if the client is gone
}
