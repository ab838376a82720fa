package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/punch"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimDir) != "" {
		os.Exit(victim())
	}
	goleak.VerifyTestMain(m)
}

// endpoint is a server that answers as a test says and remembers its requests.
type endpoint struct {
	*httptest.Server
	name string
	log  *[]seen // shared by the endpoints of a test, guarded by mu
	mu   *sync.Mutex
	// answer is called for each request. The first request has number 1.
	answer func(w http.ResponseWriter, r *http.Request, body []byte, number int)
	number int // guarded by mu
}

// seen is a request that arrived at an endpoint.
type seen struct {
	endpoint, path, token, body string
	at                          time.Time
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client gave up
	}
	e.mu.Lock()
	e.number++
	number := e.number
	*e.log = append(*e.log, seen{e.name, r.Method + " " + r.URL.RequestURI(), r.Header.Get("Authorization"), string(body), time.Now()})
	e.mu.Unlock()
	e.answer(w, r, body, number)
}

// answerFunc answers the number-th request of an endpoint.
type answerFunc = func(w http.ResponseWriter, r *http.Request, body []byte, number int)

// servers starts an endpoint for each answer, with the names a, b and so on. The returned function returns the requests so
// far, in order.
func servers(t *testing.T, answers ...answerFunc) (urls []string, arrived func() []seen) {
	t.Helper()
	var log []seen
	var mu sync.Mutex
	for i, answer := range answers {
		e := &endpoint{name: string(rune('a' + i)), log: &log, mu: &mu, answer: answer}
		e.Server = httptest.NewServer(e)
		t.Cleanup(e.Close)
		urls = append(urls, e.URL)
	}
	return urls, func() []seen {
		mu.Lock()
		defer mu.Unlock()
		return append([]seen(nil), log...)
	}
}

// mustNew makes a client without waits between attempts, and with a budget that never ends.
func mustNew(t *testing.T, urls []string, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		Endpoints: urls, Token: StaticToken("secret"), Backoff: Backoff{Base: time.Microsecond, Max: time.Millisecond},
		Budget: Budget{Every: time.Microsecond},
	}
	for _, c := range change {
		c(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var recordedAt = time.Date(2026, 11, 2, 8, 30, 0, 123456000, time.UTC)

// receiptBody is the receipt of the service for the request in body.
func receiptBody(body []byte) map[string]any {
	var sent struct {
		ID, Employee, Kind string
		At                 *time.Time
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		panic(err) // a test sent it
	}
	id, err := punch.ParseID(sent.ID)
	if err != nil {
		panic(err)
	}
	at := id.Time()
	if sent.At != nil {
		at = *sent.At
	}
	return map[string]any{
		"id": sent.ID, "company": "acme", "employee": sent.Employee, "kind": sent.Kind,
		"punched_at": at, "received_at": recordedAt.Add(-time.Millisecond), "recorded_at": recordedAt,
		"zone": "Europe/Berlin", "utc_offset": "+01:00", "home_region": "eu-west", "entry_region": "us-east",
		"marks": []string{"late", "new"}, "replayed": false, "trace_id": "0af7651916cd43dd8448eb211c80319c", "something_new": []int{1},
	}
}

// recorded answers with a receipt.
func recorded(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
	w.Header().Set(nodeHeader, "eu-west-n1")
	writeJSON(w, "application/json", http.StatusCreated, receiptBody(body))
}

func writeJSON(w http.ResponseWriter, contentType string, status int, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

// problem answers with a problem document.
func problem(status int, code punch.Code, retryAfter string) answerFunc {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		writeJSON(w, "application/problem+json; charset=utf-8", status, map[string]any{
			"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "final": code.Final(),
			"field": "kind", "detail": "because", "trace_id": "0af7651916cd43dd8448eb211c80319c",
		})
	}
}

// page answers as a load balancer or the login page of a hotel does.
func page(status int) answerFunc {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<html>please log in</html>") // the client may be gone
	}
}

// raw answers with text in place of a receipt.
func raw(status int, text string) answerFunc {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text) // the client may be gone
	}
}

// cut reads the request and closes the connection.
func cut(http.ResponseWriter, *http.Request, []byte, int) { panic(http.ErrAbortHandler) }

// silent reads the request and never answers.
func silent(_ http.ResponseWriter, r *http.Request, _ []byte, _ int) { <-r.Context().Done() }

// first answers the first request in its own way, and all later ones otherwise.
func first(one, later answerFunc) answerFunc {
	return func(w http.ResponseWriter, r *http.Request, body []byte, number int) {
		if number == 1 {
			one(w, r, body, number)
			return
		}
		later(w, r, body, number)
	}
}

func request() Request {
	return Request{
		ID: punch.NewID(), Employee: "e1", Kind: punch.In, At: time.Date(2026, 11, 2, 8, 29, 59, 987654321, time.FixedZone("", 3600)),
		Source: "gate-1", Note: "späte Bahn \"3\"",
	}
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// path is the names of the endpoints of the requests, such as "aab".
func path(requests []seen) (s string) {
	for _, r := range requests {
		s += r.endpoint
	}
	return s
}

// mustBeAlike checks that every attempt had the same bytes.
func mustBeAlike(t *testing.T, requests []seen) {
	t.Helper()
	for _, r := range requests[1:] {
		if r.body != requests[0].body {
			t.Errorf("the attempts differ:\n%s\n%s", requests[0].body, r.body)
		}
	}
}

func describe(err error) string { return fmt.Sprintf("%T %+v", err, err) }
