package node_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
)

var (
	discard  = slog.New(slog.DiscardHandler)
	noMeter  = metricnoop.NewMeterProvider()
	noTracer = tracenoop.NewTracerProvider()
)

func token(t *testing.T, company string) string { return tokenFor(t, company, auth.Manager) }

func tokenFor(t *testing.T, company string, role auth.Role) string {
	t.Helper()
	token, err := shared.key.Sign(auth.Claims{
		Company: company, Subject: "kiosk-1", Role: role,
		Issuer: "punchclock", Audience: "punchclock", TTL: time.Hour,
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

type body map[string]any

// answer is the response of a node.
type answer struct {
	status int
	header http.Header
	body   body
}

func (a answer) code() string {
	code, _ := a.body["code"].(string)
	return code
}

// send makes one request without retries.
func send(t *testing.T, method, url, token string, in any) answer {
	t.Helper()
	var payload io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(testContext(t), method, url, payload)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	a := answer{status: res.StatusCode, header: res.Header}
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &a.body); err != nil {
		t.Fatalf("%s %s answered %d %q: %v", method, url, res.StatusCode, raw, err)
	}
	return a
}

func post(t *testing.T, n *cluster.Node, token string, punch body) answer {
	t.Helper()
	return send(t, http.MethodPost, n.PublicURL+"/v1/punches", token, punch)
}

func wantStatus(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Fatalf("answered %d %q: %v, want %d %q", a.status, a.code(), a.body, status, code)
	}
}

// device returns a reference client that prefers the nodes of one region.
func (w *world) device(t *testing.T, company, near string) *client.Client {
	t.Helper()
	var endpoints []string
	for _, n := range w.cluster.Region(near) {
		endpoints = append(endpoints, n.PublicURL)
	}
	for _, n := range w.cluster.Nodes() {
		if n.Region != near {
			endpoints = append(endpoints, n.PublicURL)
		}
	}
	tok := token(t, company)
	c, err := client.New(client.Config{Endpoints: endpoints, Token: client.StaticToken(tok)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// quietPost sends a punch, and returns nil for any answer.
func quietPost(ctx context.Context, n *cluster.Node, token string, in body) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.PublicURL+"/v1/punches", bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return errors.Join(err, res.Body.Close())
}

// metricOf returns the sum of a metric's series on a node. The name is Prometheus's, and the line must contain the labels.
func metricOf(t *testing.T, n *cluster.Node, name string, labels ...string) (sum float64) {
	t.Helper()
	res, err := http.Get(n.OpsURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	lines := bufio.NewScanner(res.Body)
line:
	for lines.Scan() {
		cut := strings.LastIndexByte(lines.Text(), ' ') // labels may hold spaces
		if cut < 0 {
			continue
		}
		series, value := lines.Text()[:cut], lines.Text()[cut+1:]
		if bare, _, _ := strings.Cut(series, "{"); bare != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue line
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		sum += v
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sum
}

// awaitInFlight waits until a node holds as many punches.
func awaitInFlight(t *testing.T, n *cluster.Node, want float64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for metricOf(t, n, "punchclock_http_in_flight") < want {
		if time.Now().After(deadline) {
			t.Fatalf("%s never held %v punches", n.Name, want)
		}
		time.Sleep(10 * time.Millisecond) // poll
	}
}
