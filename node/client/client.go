// Package client is the reference client for devices that record punches: a terminal, a gate, a phone, an integration.
//
// A Client makes the id of a punch once and keeps it over all retries. It tries its endpoints in order and waits as the
// service asks. Each error says whether the punch is refused for good or must be kept. A Client keeps nothing on disk.
//
// An Outbox keeps punches on disk, for devices that must survive a long outage, a crash and a loss of power.
//
// The package does not decide which punch is valid. Only the service knows that.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Config names the endpoints of a Client and bounds its calls. Endpoints and Token are required. Every other field has a
// default, which holds at the zero value.
type Config struct {
	// Endpoints are the base URLs of the API in order of preference, the nearest first. An example is
	// "https://eu-west.punchclock.example".
	Endpoints []string
	// Token returns the bearer token. The client calls it before each attempt, so it may renew an expiring token. It
	// should answer from memory.
	Token func(ctx context.Context) (string, error)
	// HTTPClient sends the requests. The default is a client of the package's own. The package never follows redirects,
	// whatever HTTPClient says, because a redirect would send the token to another host.
	HTTPClient *http.Client
	// AttemptTimeout bounds one request. The default is 20 s. A node answers within its own deadline of 15 s, and a slow
	// mobile link adds to that.
	AttemptTimeout time.Duration
	// FirstAttemptTimeout bounds the request of a single punch while there is an endpoint that this call has not asked.
	// The default is 2 s. A person waits at the gate, and an endpoint that is silent for 2 s has probably stopped. Asking
	// another endpoint is safe because the id is kept. A link with slow handshakes needs a higher value.
	FirstAttemptTimeout time.Duration
	// TotalTimeout bounds one call over all its attempts. The default is 65 s, enough for three endpoints that accept and
	// never answer. The context may end a call earlier.
	TotalTimeout time.Duration
	// MaxClockAhead bounds how far ahead of the service's time a punch may be and still wait. The default is 15 minutes.
	// If two nodes say that a punch is further ahead, the error is final. Recorded later, it would have a wrong hour.
	MaxClockAhead time.Duration
	// Backoff bounds the waits between attempts.
	Backoff Backoff
	// Budget bounds how many of the requests are retries. A program that sends for many devices, such as a gateway, needs
	// a larger Reserve and a shorter Every.
	Budget Budget
}

// Backoff is exponential with full jitter. Before attempt n+1 the client waits a random time up to Base doubled n-1
// times, but never more than Max. After a Retry-After the client waits that long, and then a random time up to half of it.
type Backoff struct {
	// Base is 100 ms by default, a time that a person at a gate does not notice.
	Base time.Duration
	// Max is 5 s by default, so a device is back within seconds of the service.
	Max time.Duration
	// RetryAfterMax bounds the Retry-After that the client obeys. The default is 30 minutes, twice the wait of a suspended
	// company. A wrong header must not silence a device for longer.
	RetryAfterMax time.Duration
	// CoolDown is the time for which the client skips an endpoint that did not answer, while there is another endpoint.
	// The default is 10 s, about the time in which a node restarts. Each failure in a row doubles it, up to a minute.
	CoolDown time.Duration
}

const (
	defaultAttemptTimeout      = 20 * time.Second
	defaultFirstAttemptTimeout = 2 * time.Second
	defaultTotalTimeout        = 65 * time.Second
	defaultMaxClockAhead       = 15 * time.Minute
	defaultBackoffBase         = 100 * time.Millisecond
	defaultBackoffMax          = 5 * time.Second
	defaultRetryAfterMax       = 30 * time.Minute
	defaultCoolDown            = 10 * time.Second
)

// StaticToken is a Config.Token that always returns token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// TokenFile is a Config.Token that reads a file before each attempt. An operator can thus replace an invalid token while
// punches wait.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		if err == nil && len(strings.TrimSpace(string(text))) == 0 {
			err = fmt.Errorf("%s is empty", path)
		}
		return strings.TrimSpace(string(text)), err
	}
}

// Client talks to Punchclock for the company that its token names. It is safe for concurrent use.
type Client struct {
	cfg        Config
	http       *http.Client
	transport  *http.Transport // nil if the caller gave its own HTTPClient
	budget     *bucket
	endpoints  atomic.Pointer[endpoints]
	refreshing sync.Mutex // held while a call replaces the endpoints
}

// New makes a Client. It opens no connection.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &Client{cfg: cfg.withDefaults()}
	c.budget = newBucket(c.cfg.Budget)
	c.endpoints.Store(newEndpoints(c.cfg.Endpoints))
	if cfg.HTTPClient == nil {
		c.transport = newTransport()
		c.http = &http.Client{Transport: c.transport}
	} else {
		copied := *cfg.HTTPClient
		c.http = &copied
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Close closes idle connections. It does nothing for a client that has the caller's HTTPClient.
func (c *Client) Close() {
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		// A host that is down must leave time for the next endpoint.
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		// A node that is full has no time for full handshakes, and a device must often connect again then.
		TLSClientConfig:   &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(maxEndpoints)},
		ForceAttemptHTTP2: true,
		// In HTTP/2 all requests share one connection. Pings detect a dead connection before each request times out.
		HTTP2:        &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConns: 256,
		// The default of net/http is two: a busy kiosk would open a connection for most of its punches.
		MaxIdleConnsPerHost: 64,
		// Load balancers drop idle connections after a minute.
		IdleConnTimeout: 50 * time.Second,
	}
}

// Validate names the first field with an invalid value. A zero value stands for the default.
func (cfg *Config) Validate() error {
	if len(cfg.Endpoints) == 0 {
		return errors.New("setting Endpoints: at least one is needed")
	}
	for _, e := range cfg.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("setting Endpoints: %q is not an http or https URL", e)
		}
	}
	if cfg.Token == nil {
		return errors.New("setting Token: is needed")
	}
	for _, d := range cfg.durations() {
		if *d.value < 0 {
			return fmt.Errorf("setting %s: must not be negative, is %s", d.name, *d.value)
		}
	}
	if b := cfg.Budget; b.Ratio < 0 || b.Reserve < 0 || math.IsNaN(b.Ratio+b.Reserve) {
		return fmt.Errorf("setting Budget: Ratio and Reserve must not be negative, are %g and %g", b.Ratio, b.Reserve)
	}
	return nil
}

func (cfg Config) withDefaults() Config {
	cfg.Endpoints = slices.Clone(cfg.Endpoints)
	for i, e := range cfg.Endpoints {
		cfg.Endpoints[i] = strings.TrimRight(e, "/")
	}
	for _, d := range cfg.durations() {
		*d.value = cmp.Or(*d.value, d.fallback)
	}
	cfg.Budget.Ratio = cmp.Or(cfg.Budget.Ratio, defaultBudgetRatio)
	cfg.Budget.Reserve = max(1, cmp.Or(cfg.Budget.Reserve, defaultBudgetReserve)) // less than a whole token never allows a retry
	return cfg
}

type duration struct {
	name     string
	value    *time.Duration
	fallback time.Duration
}

func (cfg *Config) durations() []duration {
	return []duration{
		{"AttemptTimeout", &cfg.AttemptTimeout, defaultAttemptTimeout},
		{"FirstAttemptTimeout", &cfg.FirstAttemptTimeout, defaultFirstAttemptTimeout},
		{"TotalTimeout", &cfg.TotalTimeout, defaultTotalTimeout},
		{"MaxClockAhead", &cfg.MaxClockAhead, defaultMaxClockAhead},
		{"Backoff.Base", &cfg.Backoff.Base, defaultBackoffBase},
		{"Backoff.Max", &cfg.Backoff.Max, defaultBackoffMax},
		{"Backoff.RetryAfterMax", &cfg.Backoff.RetryAfterMax, defaultRetryAfterMax},
		{"Backoff.CoolDown", &cfg.Backoff.CoolDown, defaultCoolDown},
		{"Budget.Every", &cfg.Budget.Every, defaultBudgetEvery},
	}
}

// Request is a punch to record. The token names its company.
type Request struct {
	// ID identifies the punch over all retries. If it is zero, the call makes it, as WithID does. A caller that may have
	// to send the punch again later calls WithID first, or takes Error.ID.
	ID       punch.ID
	Employee string
	Kind     punch.Kind
	At       time.Time // when the employee punched; if zero, the service takes the time in the id
	Source   string    // the recorder, such as the name of a terminal; may be empty
	Note     string    // free text; may be empty
}

// WithID returns r with an id. A new id has the time At, or the present time if At is zero. The service refuses an id
// whose time is more than a day from At, as that of a punch which was noted down days ago.
func (r Request) WithID() Request {
	switch {
	case r.ID != punch.ID{}:
	case r.At.IsZero():
		r.ID = punch.NewID()
	default:
		r.ID = punch.IDAt(r.At)
	}
	return r
}

// Receipt proves that a punch is committed. It also says how the client got it.
type Receipt struct {
	punch.Receipt
	Node     string // the node that answered; empty if the answer did not name it
	Endpoint string // the endpoint that answered
	Attempts int    // number of requests, at least 1
	// UploadAfter is the time that the service asks a device to wait before it uploads stored punches. It is 0 if the
	// answer does not ask. It never concerns a person who punches now.
	UploadAfter time.Duration
}

// Punch records a punch and returns its receipt. It retries under the same id until an answer settles the punch, the
// context ends or TotalTimeout is over.
//
// An error is always an *Error. If it is Final, the service will never record the punch under this id and a person must
// look at it. After any other error the caller keeps the punch and calls again with the same Request and ID.
func (c *Client) Punch(ctx context.Context, r Request) (Receipt, error) {
	r = r.WithID()
	body, err := r.JSON()
	if err != nil {
		return Receipt{}, unsendable(r.ID, err)
	}
	var receipt Receipt
	var clock clockCheck
	attempts, failure := c.do(ctx, c.cfg.FirstAttemptTimeout, func(ctx context.Context, endpoint string) *Error {
		answer, err := c.send(ctx, endpoint, http.MethodPost, "/v1/punches", body, maxReceiptBytes)
		if err == nil {
			receipt, err = answer.receiptFor(r.Employee, r.ID)
		}
		if err != nil {
			clock.hear(err, c.cfg.MaxClockAhead)
		}
		return err
	})
	if failure != nil {
		failure.ID = r.ID
		return Receipt{}, failure
	}
	c.skipWrongClock(&clock)
	receipt.Attempts = attempts
	return receipt, nil
}
