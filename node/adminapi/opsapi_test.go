package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/punchclock/punchclock/region"
)

func TestWhatAsksForAToken(t *testing.T) {
	handler := New(Deps{
		NotReady: func() []string { return nil }, Metrics: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
		Operator: func(_ context.Context, token string) error {
			if token != "operator" {
				return errors.New("this token is not an operator's")
			}
			return nil
		},
		Status: func() Status { return Status{} }, Keyrings: func() Keyrings { return Keyrings{} },
		Evacuate: func(_ context.Context, e region.Evacuation, _ bool) (region.Evacuation, error) { return e, nil },
	})
	status := func(method, path, authorization string) int {
		r := httptest.NewRequest(method, path, http.NoBody)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusOK, "/metrics": http.StatusNotFound} {
		if got := status(http.MethodGet, path, ""); got != want {
			t.Errorf("%s without a token is answered %d, want %d", path, got, want)
		}
	}
	for path, method := range map[string]string{
		"/status": "GET", "/gossip/keys": "GET", "/regions/eu-west/evacuation": "DELETE", "/debug/pprof/": "GET", "/debug/pprof/cmdline": "GET",
		"/debug/pprof/heap": "GET", "/debug/pprof/profile?seconds=60": "GET", "/debug/pprof/trace?seconds=60": "GET", "/debug/pprof/symbol": "POST",
	} {
		for authorization, want := range map[string]int{
			"": http.StatusUnauthorized, "Basic operator": http.StatusUnauthorized, "Bearer ": http.StatusForbidden, "Bearer manager": http.StatusForbidden,
		} {
			if got := status(method, path, authorization); got != want {
				t.Errorf("%s %s with %q is answered %d, want %d", method, path, authorization, got, want)
			}
		}
	}
	for path, method := range map[string]string{"/status": "GET", "/gossip/keys": "GET", "/regions/eu-west/evacuation": "DELETE", "/debug/pprof/cmdline": "GET"} {
		if got := status(method, path, "Bearer operator"); got != http.StatusOK {
			t.Errorf("%s %s by an operator is answered %d", method, path, got)
		}
	}
}
