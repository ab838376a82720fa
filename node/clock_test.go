package node_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node"
	"github.com/punchclock/punchclock/node/punch"
)

// TestANodeWithAWrongClockBlamesItself starts nodes with wrong clocks. A node must know it before it takes the first
// request, and must send devices elsewhere: by its own clock a good punch may lie ahead, and a good token may have
// expired, or may not be valid yet.
func TestANodeWithAWrongClockBlamesItself(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		tok := token(t, w.company(t, "us-east"))
		for _, ahead := range []time.Duration{-10 * time.Minute, 10 * time.Minute, -48 * time.Hour, 48 * time.Hour} {
			settings := w.settings(t)
			settings.Public.Addr = freeAddr(t)
			n, err := node.New(settings, node.Deps{Log: discard, Clock: func() time.Time { return time.Now().Add(ahead) }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- n.Run(ctx) }()
			// The first answer of the public listener counts.
			a := firstAnswer(t, "http://"+settings.Public.Addr, tok)
			if a.status != http.StatusServiceUnavailable || a.code() != string(punch.Unavailable) || a.body["final"] != false {
				t.Errorf("with a clock %s ahead the node answered %d %v, want 503", ahead, a.status, a.body)
			}
			reasons := notReady(t, "http://"+settings.Ops.Addr)
			if !strings.Contains(strings.Join(reasons, "\n"), "the clock is") { // it may still be starting as well
				t.Errorf("the node is not ready because of %q", reasons)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}

// firstAnswer sends a punch until the node listens, and returns the answer.
func firstAnswer(t *testing.T, url, token string) answer {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) { // poll
		res, err := http.Get(url + "/openapi.yaml")
		if err == nil {
			_ = res.Body.Close()
			in := body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"}
			return send(t, http.MethodPost, url+"/v1/punches", token, in)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not listen: %v", err)
		}
	}
}

// notReady returns the reasons why a node is not ready.
func notReady(t *testing.T, url string) []string {
	t.Helper()
	res, err := http.Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	var said struct{ Reasons []string }
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.Reasons
}
