// Package client is the reference client for whatever records punches: a
// terminal, a gate, a phone, an integration. It makes a punch's id once and
// keeps it over all retries, tries its endpoints in order, waits as it is
// told, and says of each error whether the punch is refused for good or must
// be kept. Client keeps nothing on disk; Outbox does, for devices that must
// outlive a long outage, a crash and a loss of power. It judges no punch by
// itself: what is valid only the service knows.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Config tells a Client whom to ask and how long. Endpoints and Token are
// required; every other field has a default that is used at its zero value.
type Config struct {
	// Endpoints are the base URLs of the API in order of preference, such
	// as "https://eu-west.punchclock.example". The nearest comes first.
	Endpoints []string
	// Token returns the bearer token. It is called before each attempt, so
	// that it may renew one that expires, and should answer from memory.
	Token func(ctx context.Context) (string, error)
	// HTTPClient sends the requests; by default one of its own. Redirects
	// are never followed, whatever it says: they would carry the token away.
	HTTPClient *http.Client
	// AttemptTimeout bounds one request. The default is 20 s: a node
	// answers within its own deadline of 15 s, and its answer, after a slow
	// mobile link, is worth more than the guess that there is none.
	AttemptTimeout time.Duration
	// Patience bounds the request of a single punch while there is another
	// endpoint to ask. The default is 2 s: an endpoint that has said nothing
	// by then is likelier frozen than slow, a person waits at the gate, and
	// asking another one is safe because the id is kept. Links that need
	// longer for a handshake want more.
	Patience time.Duration
	// TotalTimeout bounds one call over all its attempts. The default is 65
	// s: enough for three endpoints of which each accepts and never
	// answers. The context may end a call earlier.
	TotalTimeout time.Duration
	// Backoff bounds the waits between attempts.
	Backoff Backoff
}

// Backoff is exponential with full jitter: before attempt n+1 the client waits
// a random time up to Base doubled n-1 times, but never above Max.
type Backoff struct {
	// Base is 100 ms by default: less than a person at a gate notices.
	Base time.Duration
	// Max is 5 s by default: a device is back within seconds of the service.
	Max time.Duration
	// RetryAfterMax bounds how long an answer's Retry-After is obeyed, 30 s
	// by default: a wrong header must not silence a device.
	RetryAfterMax time.Duration
	// CoolDown is for how long an endpoint that did not answer is passed
	// over while another one is left, 10 s by default: about what a node
	// takes to restart, and few enough tries that cost a time-out.
	CoolDown time.Duration
}

const (
	defaultAttemptTimeout = 20 * time.Second
	defaultPatience       = 2 * time.Second
	defaultTotalTimeout   = 65 * time.Second
	defaultBackoffBase    = 100 * time.Millisecond
	defaultBackoffMax     = 5 * time.Second
	defaultRetryAfterMax  = 30 * time.Second
	defaultCoolDown       = 10 * time.Second
)

// StaticToken is a Config.Token that always returns token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// TokenFile is a Config.Token that reads a file anew for each attempt, so that
// a token can be replaced while punches wait for a good one.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		if err == nil && len(strings.TrimSpace(string(text))) == 0 {
			err = fmt.Errorf("%s is empty", path)
		}
		return strings.TrimSpace(string(text)), err
	}
}

// Client talks to Punchclock for one company, the one its token names. It is
// safe for concurrent use.
type Client struct {
	cfg        Config
	http       *http.Client
	own        *http.Transport // nil when the caller handed in its own client
	endpoints  atomic.Pointer[ring]
	refreshing sync.Mutex // held while the endpoints are replaced
}

// New makes a Client. It opens no connection.
func New(cfg Config) (*Client, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &Client{cfg: cfg}
	c.endpoints.Store(newRing(cfg.Endpoints))
	if cfg.HTTPClient == nil {
		c.own = newTransport()
		c.http = &http.Client{Transport: c.own}
	} else {
		copied := *cfg.HTTPClient
		c.http = &copied
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Close closes idle connections. A client whose HTTPClient was handed in has
// nothing to close.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		// A host that is down must leave most of the attempt to the next.
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
		// All requests share one connection in HTTP/2; a dead one must not
		// cost each of them its time-out.
		HTTP2:        &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConns: 256,
		// net/http keeps two, so a kiosk with a queue would dial anew for
		// most of its punches.
		MaxIdleConnsPerHost: 64,
		// Shorter than the minute after which balancers drop idle ones.
		IdleConnTimeout: 50 * time.Second,
	}
}

// complete fills in the defaults and checks the rest.
func (cfg *Config) complete() error {
	if len(cfg.Endpoints) == 0 {
		return errors.New("setting Endpoints: at least one is needed")
	}
	trimmed := make([]string, len(cfg.Endpoints))
	for i, e := range cfg.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("setting Endpoints: must be http or https URLs, %q is not", e)
		}
		trimmed[i] = strings.TrimRight(e, "/")
	}
	cfg.Endpoints = trimmed
	if cfg.Token == nil {
		return errors.New("setting Token: is needed")
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"AttemptTimeout", &cfg.AttemptTimeout, defaultAttemptTimeout},
		{"Patience", &cfg.Patience, defaultPatience},
		{"TotalTimeout", &cfg.TotalTimeout, defaultTotalTimeout},
		{"Backoff.Base", &cfg.Backoff.Base, defaultBackoffBase},
		{"Backoff.Max", &cfg.Backoff.Max, defaultBackoffMax},
		{"Backoff.RetryAfterMax", &cfg.Backoff.RetryAfterMax, defaultRetryAfterMax},
		{"Backoff.CoolDown", &cfg.Backoff.CoolDown, defaultCoolDown},
	} {
		if *d.value < 0 {
			return fmt.Errorf("setting %s: must not be negative, is %s", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	return nil
}

// Request is a punch to record. The company is the token's.
type Request struct {
	// ID is made when it is zero. A caller that may have to send the punch
	// again later makes it itself, with punch.NewID, or takes Error.ID.
	ID       punch.ID
	Employee string
	Kind     punch.Kind
	At       time.Time // when the employee punched; the id's time when zero
	Source   string    // what recorded it, such as a terminal's name; may be empty
	Note     string    // free text; may be empty
}

// Receipt is the proof that a punch is committed, and how it was obtained.
type Receipt struct {
	punch.Receipt
	Node     string // the node that answered, empty when it did not say
	Endpoint string // the endpoint that answered
	Attempts int    // requests it took, at least 1
}

// Punch records a punch and returns its receipt. It retries under the same id
// until there is an answer that settles it, the context ends or TotalTimeout
// is over. An error is always an *Error: when it is Final the punch will never
// be taken under this id and a person has to look at it; else the caller keeps
// the punch and calls again with the same Request and ID.
func (c *Client) Punch(ctx context.Context, r Request) (Receipt, error) {
	if r.ID == (punch.ID{}) {
		r.ID = punch.NewID()
	}
	body, err := encodePunch(r)
	if err != nil {
		return Receipt{}, unsendable(r.ID, err)
	}
	var receipt Receipt
	attempts, failure := c.settle(ctx, c.cfg.Patience, func(ctx context.Context, endpoint string) *Error {
		answer, err := c.send(ctx, endpoint, http.MethodPost, "/v1/punches", body, maxReceiptBytes)
		if err != nil {
			return err
		}
		receipt, err = answer.receiptFor(r.Employee, r.ID)
		return err
	})
	if failure != nil {
		failure.ID = r.ID
		return Receipt{}, failure
	}
	receipt.Attempts = attempts
	return receipt, nil
}
