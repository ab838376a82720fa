package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

func TestReceipt(t *testing.T) {
	urls, arrived := servers(t, recorded)
	c := mustNew(t, []string{urls[0] + "/"})
	r := request()
	got, err := c.Punch(background(t), r)
	if err != nil {
		t.Fatal(err)
	}
	want := Receipt{
		Receipt: punch.Receipt{
			Company: "acme", Employee: "e1", ID: r.ID, Kind: punch.In, PunchedAt: punch.Microseconds(r.At),
			ReceivedAt: recordedAt.Add(-time.Millisecond), RecordedAt: recordedAt, Zone: "Europe/Berlin", UTCOffset: 3600,
			HomeRegion: "eu-west", EntryRegion: "us-east", Late: true, TraceID: "0af7651916cd43dd8448eb211c80319c",
		},
		Node: "eu-west-n1", Endpoint: urls[0], Attempts: 1,
	}
	if got != want {
		t.Errorf("the receipt is\n%+v, want\n%+v", got, want)
	}
	sent := arrived()[0]
	body := `{"id":"` + r.ID.String() + `","employee":"e1","kind":"in","at":"2026-11-02T07:29:59.987654Z",` +
		`"source":"gate-1","note":"späte Bahn \"3\""}`
	if sent.path != "POST /v1/punches" || sent.token != "Bearer secret" || sent.body != body {
		t.Errorf("sent %+v, want the body\n%s", sent, body)
	}
}

func TestEmptyFieldsAreNotSentAndTheIDIsKept(t *testing.T) {
	urls, arrived := servers(t, first(page(http.StatusBadGateway), recorded))
	c := mustNew(t, urls)
	got, err := c.Punch(background(t), Request{Employee: "e1", Kind: punch.Auto})
	if err != nil {
		t.Fatal(err)
	}
	requests := arrived()
	mustBeAlike(t, requests)
	if want := `{"id":"` + got.ID.String() + `","employee":"e1","kind":"auto"}`; requests[0].body != want || got.Attempts != 2 {
		t.Errorf("sent %s in %d attempts, want %s in 2", requests[0].body, got.Attempts, want)
	}
}

// TestAnswers covers the table in openapi.yaml of what a device does with an answer, and responses that are no answer.
func TestAnswers(t *testing.T) {
	const retried, kept, final = "retried", "kept", "final"
	id := punch.NewID().String()
	otherReceipt := `{"id":"` + id + `","employee":"e1","home_region":"x","utc_offset":"+02:00","recorded_at":"2026-11-02T08:30:00Z"}`
	for name, c := range map[string]struct {
		answer answerFunc
		want   string
	}{
		"201":                         {recorded, "receipt"},
		"503 unavailable":             {problem(503, punch.Unavailable, ""), retried},
		"503 overloaded":              {problem(503, punch.Overloaded, ""), retried},
		"503 suspended":               {problem(503, punch.Suspended, "900"), kept},
		"503 that calls itself final": {problem(503, punch.Invalid, ""), retried},
		"429":                         {problem(429, punch.RateLimited, ""), retried},
		"408":                         {problem(408, punch.Unavailable, ""), retried},
		"500":                         {problem(500, punch.Unavailable, ""), retried},
		"503 by a balancer":           {page(503), retried},
		"403 by a login page":         {page(403), retried},
		"404 by a balancer":           {page(404), retried},
		"302":                         {page(302), retried},
		"200 by a login page":         {page(200), retried},
		"cut":                         {cut, retried},
		"200, empty":                  {raw(200, ""), retried},
		"200, torn":                   {raw(200, `{"id":"`+id), retried},
		"200, no receipt":             {raw(200, `{}`), retried},
		"201 for another punch":       {raw(201, otherReceipt), retried},
		"200, not UTF-8":              {raw(200, "{\"id\":\"\xff\"}"), retried},
		"200, endless":                {raw(200, strings.Repeat(" ", maxReceiptBytes+1)), retried},
		"400 that is no JSON":         {raw(400, "no"), retried},
		"204":                         {page(204), retried},
		"401":                         {problem(401, punch.Unauthenticated, ""), retried},
		"401 that calls itself final": {problem(401, punch.Invalid, ""), retried},
		"422 clock_ahead by one node": {problem(422, punch.ClockAhead, "60"), retried},
		"400":                         {problem(400, punch.Invalid, ""), final},
		"403":                         {problem(403, punch.Forbidden, ""), final},
		"404":                         {problem(404, punch.UnknownCompany, ""), final},
		"405":                         {problem(405, punch.MethodNotAllowed, ""), final},
		"409":                         {problem(409, punch.Conflict, ""), final},
		"413":                         {problem(413, punch.TooLarge, ""), final},
		"415":                         {problem(415, punch.UnsupportedMedia, ""), final},
		"400 with an unknown code":    {problem(400, "sabbath", ""), retried},
	} {
		t.Run(name, func(t *testing.T) {
			urls, arrived := servers(t, c.answer, recorded)
			r := request()
			receipt, err := mustNew(t, urls).Punch(background(t), r)
			requests := arrived()
			mustBeAlike(t, requests)
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.ID != r.ID) {
				t.Fatalf("the error is %s, want an *Error for %s", describe(err), r.ID)
			}
			switch c.want {
			case "receipt":
				if err != nil || path(requests) != "a" {
					t.Errorf("%v after %q, want a receipt after a", err, path(requests))
				}
			case retried:
				if err != nil || path(requests) != "ab" || receipt.Attempts != 2 || receipt.Endpoint != urls[1] {
					t.Errorf("%v after %q, want a receipt after ab: %+v", err, path(requests), receipt)
				}
			default:
				if e == nil || e.Final != (c.want == final) || IsFinal(err) != e.Final || path(requests) != "a" {
					t.Fatalf("%s after %q, want a %s error after a", describe(err), path(requests), c.want)
				}
				if e.Field != "kind" || e.Detail != "because" || e.TraceID == "" || e.Attempts != 1 || e.Endpoint != urls[0] {
					t.Errorf("the error lacks a field of the answer: %+v", e)
				}
			}
		})
	}
}

func TestSilentAndClosedEndpointsAreSkipped(t *testing.T) {
	urls, arrived := servers(t, silent, recorded)
	urls = append([]string{"http://127.0.0.1:1"}, urls...) // no process listens on port 1
	c := mustNew(t, urls, func(cfg *Config) { cfg.AttemptTimeout = time.Second })
	receipt, err := c.Punch(background(t), request())
	if err != nil || path(arrived()) != "ab" || receipt.Attempts != 3 {
		t.Fatalf("%v after %q in %d attempts, want a receipt after ab in 3", err, path(arrived()), receipt.Attempts)
	}
	if _, err := c.Punch(background(t), request()); err != nil || path(arrived()) != "abb" {
		t.Errorf("%v after %q: the next punch must begin at the endpoint that answers", err, path(arrived()))
	}
}

func TestContextEndsACall(t *testing.T) {
	urls, _ := servers(t, silent)
	c := mustNew(t, urls)
	ctx, cancel := context.WithCancel(background(t))
	time.AfterFunc(20*time.Millisecond, cancel)
	r := request()
	_, err := c.Punch(ctx, r)
	var e *Error
	if !errors.As(err, &e) || e.Final || !errors.Is(err, context.Canceled) || e.ID != r.ID || e.Attempts != 1 {
		t.Fatalf("got %s, want a kept error that is context.Canceled", describe(err))
	}
	if c.endpoints.Load().until[0] != (time.Time{}) {
		t.Error("calls skip the endpoint because one caller gave up")
	}
}

func TestTotalTimeoutEndsACall(t *testing.T) {
	urls, arrived := servers(t, silent, silent)
	c := mustNew(t, urls, func(cfg *Config) {
		cfg.AttemptTimeout, cfg.TotalTimeout = 20*time.Millisecond, time.Second
	})
	_, err := c.Punch(background(t), request())
	var e *Error
	if !errors.As(err, &e) || e.Final || e.Attempts < 2 || e.Code != punch.Unavailable {
		t.Fatalf("got %s, want a kept error after some attempts", describe(err))
	}
	// On a busy machine a request may arrive after the next one.
	if p := path(arrived()); !strings.Contains(p, "a") || !strings.Contains(p, "b") {
		t.Errorf("the attempts went to %q, want both endpoints", p)
	}
}

func TestEachAttemptAsksForTheToken(t *testing.T) {
	urls, arrived := servers(t, first(page(503), recorded))
	n := 0
	c := mustNew(t, urls, func(cfg *Config) {
		cfg.Token = func(context.Context) (string, error) { n++; return fmt.Sprint("t", n), nil }
	})
	if _, err := c.Punch(background(t), request()); err != nil {
		t.Fatal(err)
	}
	if got := arrived(); got[0].token != "Bearer t1" || got[1].token != "Bearer t2" {
		t.Errorf("the tokens were %q and %q", got[0].token, got[1].token)
	}
	broken := errors.New("the keyring is locked")
	c = mustNew(t, urls, func(cfg *Config) { cfg.Token = func(context.Context) (string, error) { return "", broken } })
	if _, err := c.Punch(background(t), request()); !errors.Is(err, broken) || IsFinal(err) || len(arrived()) != 2 {
		t.Errorf("without a token: %s, want a kept error and no request", describe(err))
	}
}

func TestPunchesThatJSONWouldChangeAreRefused(t *testing.T) {
	urls, arrived := servers(t, recorded)
	for _, change := range []func(*Request){
		func(r *Request) { r.Note = "\xff" },
		func(r *Request) { r.At = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		r := request()
		change(&r)
		if _, err := mustNew(t, urls).Punch(background(t), r); !IsFinal(err) || len(arrived()) != 0 {
			t.Errorf("%+v: %s after %d requests, want a final error and none", r, describe(err), len(arrived()))
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	target, leaked := servers(t, recorded)
	urls, arrived := servers(t, func(w http.ResponseWriter, r *http.Request, _ []byte, _ int) {
		http.Redirect(w, r, target[0], http.StatusTemporaryRedirect)
	}, recorded)
	c := mustNew(t, urls, func(cfg *Config) { cfg.HTTPClient = http.DefaultClient })
	if _, err := c.Punch(background(t), request()); err != nil || path(arrived()) != "ab" || len(leaked()) != 0 {
		t.Errorf("%v after %q, and %d requests with the token to the target of the redirect", err, path(arrived()), len(leaked()))
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestConfig(t *testing.T) {
	ok := func() Config { return Config{Endpoints: []string{"http://x"}, Token: StaticToken("t")} }
	for setting, change := range map[string]func(*Config){
		"Endpoints":             func(c *Config) { c.Endpoints = nil },
		"Endpoints: ":           func(c *Config) { c.Endpoints = []string{"x:80"} },
		"Token":                 func(c *Config) { c.Token = nil },
		"AttemptTimeout":        func(c *Config) { c.AttemptTimeout = -1 },
		"Backoff.RetryAfterMax": func(c *Config) { c.Backoff.RetryAfterMax = -1 },
		"Budget.Every":          func(c *Config) { c.Budget.Every = -1 },
		"Budget":                func(c *Config) { c.Budget.Ratio = -1 },
		"Budget: ":              func(c *Config) { c.Budget.Reserve = math.NaN() },
	} {
		cfg := ok()
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), setting) {
			t.Errorf("New says %v, want an error about %s", err, setting)
		}
	}
	c, err := New(ok())
	if err != nil || c.cfg.AttemptTimeout != defaultAttemptTimeout || c.cfg.Backoff.CoolDown != defaultCoolDown {
		t.Errorf("New: %v, %+v", err, c)
	}
}

// TestAFrozenEndpointCostsLittle has a second endpoint. The frozen one must not cost a punch the whole AttemptTimeout.
func TestAFrozenEndpointCostsLittle(t *testing.T) {
	urls, arrived := servers(t, silent, recorded)
	c := mustNew(t, urls, func(cfg *Config) { cfg.AttemptTimeout, cfg.FirstAttemptTimeout = time.Minute, time.Second })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	receipt, err := c.Punch(ctx, request())
	if err != nil || receipt.Endpoint != urls[1] {
		t.Fatalf("receipt %+v, %v, requests %s", receipt, err, path(arrived()))
	}
	mustBeAlike(t, arrived())
}
