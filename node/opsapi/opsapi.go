// Package opsapi is the operator's listener: is the node alive, may it be sent
// punches and if not why, its metrics and its profiles. It is meant for
// loopback or a private network and asks nobody who they are.
package opsapi

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
)

// Deps is what the listener shows.
type Deps struct {
	// NotReady returns why the node must not be sent punches, empty when it
	// may be.
	NotReady func() []string
	Metrics  http.Handler
	// About is shown with the readiness: name, region, version.
	About map[string]string
}

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
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // a balancer must see this moment
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone; there is nobody else to tell
}
