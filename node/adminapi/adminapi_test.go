package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/region"
)

func TestEverythingButHealthAndMetricsNeedsAnOperator(t *testing.T) {
	handler, err := New(Config{Node: "n", Region: "us-east", Version: "dev"}, Deps{
		NotReady: func() []string { return nil }, Metrics: http.NotFoundHandler(), Log: slog.New(slog.DiscardHandler),
		Operator: func(_ context.Context, token string) error {
			if token != "operator" {
				return errors.New("this token is not an operator's")
			}
			return nil
		},
		Status: func(context.Context) Status { return Status{} }, Keyrings: func() Keyrings { return Keyrings{} },
		Set: func(_ context.Context, s region.Switch, _ bool) ([]region.Switch, error) {
			return []region.Switch{s}, nil
		},
		Clock: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
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
		"/status": "GET", "/gossip/keys": "GET", "/regions/eu-west/evacuation": "DELETE", "/degradation": "PUT", "/debug/pprof/": "GET", "/debug/pprof/cmdline": "GET",
		"/debug/pprof/heap": "GET", "/debug/pprof/profile?seconds=60": "GET",
		"/debug/pprof/trace?seconds=60": "GET", "/debug/pprof/symbol": "POST",
	} {
		for authorization, want := range map[string]int{
			"": http.StatusUnauthorized, "Basic operator": http.StatusUnauthorized,
			"Bearer ": http.StatusForbidden, "Bearer manager": http.StatusForbidden,
		} {
			if got := status(method, path, authorization); got != want {
				t.Errorf("%s %s with %q is answered %d, want %d", method, path, authorization, got, want)
			}
		}
	}
	for path, method := range map[string]string{
		"/status": "GET", "/gossip/keys": "GET", "/regions/eu-west/evacuation": "DELETE", "/debug/pprof/cmdline": "GET",
	} {
		if got := status(method, path, "Bearer operator"); got != http.StatusOK {
			t.Errorf("%s %s by an operator is answered %d", method, path, got)
		}
	}
}

// TestSwitchesAreBounded sends switches with good and bad bounds.
func TestSwitchesAreBounded(t *testing.T) {
	clock := time.Date(2026, 3, 1, 6, 0, 0, 1, time.UTC)
	var got region.Switch
	var fails error
	handler, err := New(Config{Node: "n", Region: "us-east", Version: "dev"}, Deps{
		Operator: func(context.Context, string) error { return nil }, Log: slog.New(slog.DiscardHandler),
		Metrics: http.NotFoundHandler(), Clock: func() time.Time { return clock },
		Set: func(_ context.Context, s region.Switch, _ bool) ([]region.Switch, error) {
			got = s
			return []region.Switch{s}, fails
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	client := Client{URL: server.URL, Token: "operator"}
	for _, test := range []struct {
		d          time.Duration
		gossipOnly bool
		refusal    string // empty if the evacuation is accepted
		until      time.Time
	}{
		{0, false, "", time.Time{}},
		{time.Minute, false, "", clock.Add(time.Minute).Truncate(time.Second).Add(time.Second)},
		{-time.Minute, false, "must not be negative", time.Time{}},
		{0, true, "needs --for, at most 1h", time.Time{}},
		{61 * time.Minute, true, "needs --for, at most 1h", time.Time{}},
		{time.Hour, true, "", clock.Add(time.Hour).Truncate(time.Second).Add(time.Second)},
	} {
		got = region.Switch{}
		_, err := client.Evacuate(t.Context(), "eu-west", test.d, test.gossipOnly)
		if test.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), test.refusal) || got.Level > 0 {
				t.Errorf("for %s, by gossip only %t: %v, want a refusal with %q", test.d, test.gossipOnly, err, test.refusal)
			}
			continue
		}
		if err != nil || got.Level != 1 || got.Kind != region.Evacuation || !got.Until.Equal(test.until) {
			t.Errorf("for %s, by gossip only %t: %v, %+v, want it until %s", test.d, test.gossipOnly, err, got, test.until)
		}
	}
	if _, err := client.Restore(t.Context(), "eu-west", true); err != nil || got.Level > 0 {
		t.Errorf("a restore by gossip only: %v, %+v", err, got)
	}
	for _, test := range []struct {
		request DegradeRequest
		refusal string
		want    region.Switch
	}{
		{DegradeRequest{Level: 3}, "", region.Switch{Kind: region.Degradation, Level: 3}}, // of every region
		{
			DegradeRequest{Level: 2, Region: "eu-west", Request: Request{For: time.Minute}}, "",
			region.Switch{Kind: region.Degradation, Region: "eu-west", Level: 2, Until: clock.Add(time.Minute).Truncate(time.Second).Add(time.Second)},
		},
		{DegradeRequest{Request: Request{For: time.Minute}}, "", region.Switch{Kind: region.Degradation}}, // back to normal for ever
		{DegradeRequest{Level: 1, Region: "EU"}, "region", region.Switch{}},
		{DegradeRequest{Level: 1, Request: Request{GossipOnly: true}}, "needs --for", region.Switch{}},
	} {
		got = region.Switch{}
		_, err := client.Degrade(t.Context(), test.request)
		if test.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), test.refusal) || got.Level > 0 {
				t.Errorf("%+v: %v, want a refusal with %q", test.request, err, test.refusal)
			}
		} else if err != nil || got != test.want {
			t.Errorf("%+v sets %+v, %v, want %+v", test.request, got, err, test.want)
		}
	}
	fails = ErrNotConfirmed
	if _, err := client.Restore(t.Context(), "eu-west", false); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a change that the database did not confirm: %v, want 503", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for field, cfg := range map[string]Config{
		"Node": {Region: "r", Version: "v"}, "Region": {Node: "n", Version: "v"}, "Version": {Node: "n", Region: "r"},
	} {
		if _, err := New(cfg, Deps{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v, want an error that names the field", field, err)
		}
	}
}
