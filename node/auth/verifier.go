package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"
)

// Config says which tokens are believed. All but CacheFile and Development
// are required.
type Config struct {
	// JWKS is a file or an http(s) URL of a JSON Web Key Set (RFC 7517).
	JWKS     string
	Issuer   string // required "iss"
	Audience string // required among "aud"
	// CacheFile keeps the last good key set of a URL over restarts; empty
	// for none.
	CacheFile string
	// Development accepts keys whose id starts with "dev-".
	Development bool
}

// Deps is what a Verifier works with.
type Deps struct {
	Logger *slog.Logger
	Meters metric.MeterProvider
	Clock  func() time.Time // time.Now but in tests
}

// cacheCapacity bounds the verified tokens that are kept; each takes about
// 300 bytes. A rush of more devices than that on one node verifies signatures
// again, which costs CPU and nothing else.
const cacheCapacity = 100_000

// verified is the verdict on a token. It holds until the token expires, and
// only under the keys it was reached with: so a removed key stops working at
// the refresh that misses it, however long its tokens would live.
type verified struct {
	identity   Identity
	expires    time.Time
	generation uint64
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	issuer, audience string
	clock            func() time.Time
	ring             *keyring
	// seen is keyed by the token's digest, so that no dump of the memory
	// yields a list of tokens.
	seen *otter.Cache[[sha256.Size]byte, verified]

	tokens                        metric.Int64Counter
	fromCache, accepted, rejected metric.MeasurementOption
}

// New reads the keys and keeps them fresh until Close. It fails when there are
// none to be had, or when one is a development key and cfg does not allow it.
func New(ctx context.Context, cfg Config, deps Deps) (*Verifier, error) {
	for setting, value := range map[string]string{"JWKS": cfg.JWKS, "issuer": cfg.Issuer, "audience": cfg.Audience} {
		if value == "" {
			return nil, fmt.Errorf("tokens: the %s is not set", setting)
		}
	}
	seen, err := otter.New(&otter.Options[[sha256.Size]byte, verified]{MaximumSize: cacheCapacity})
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	v := &Verifier{issuer: cfg.Issuer, audience: cfg.Audience, clock: deps.Clock, seen: seen}
	v.ring = newKeyring(cfg, deps)
	if err := v.measure(deps.Meters.Meter("punchclock/auth")); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if err := v.ring.start(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

func newKeyring(cfg Config, deps Deps) *keyring {
	src := newSource(cfg.JWKS)
	return &keyring{
		source: src, cacheFile: cfg.CacheFile, development: cfg.Development,
		log: deps.Logger, clock: deps.Clock,
		limiter: rate.NewLimiter(rate.Every(src.onDemand), 1),
		asked:   make(chan chan struct{}), stopped: make(chan struct{}),
	}
}

func (v *Verifier) measure(meter metric.Meter) (err error) {
	v.tokens, err = meter.Int64Counter("punchclock.auth.tokens",
		metric.WithUnit("{token}"), metric.WithDescription("Tokens looked at, by outcome: cached, verified or refused."))
	if err != nil {
		return err
	}
	outcome := func(name string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", name)))
	}
	v.fromCache, v.accepted, v.rejected = outcome("cached"), outcome("verified"), outcome("refused")

	refreshes, err := meter.Int64Counter("punchclock.auth.key_refreshes",
		metric.WithUnit("{refresh}"), metric.WithDescription("Reads of the token keys, by outcome: read or failed."))
	if err != nil {
		return err
	}
	v.ring.count = func(name string) { refreshes.Add(context.Background(), 1, outcome(name)) }

	_, err = meter.Float64ObservableGauge("punchclock.auth.keys_age",
		metric.WithUnit("s"), metric.WithDescription("Time since the token keys were last read well; missing when they came from the disk."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			if at := v.ring.refreshed.Load(); at != 0 {
				o.Observe(v.clock().Sub(time.Unix(0, at)).Seconds())
			}
			return nil
		}))
	return err
}

// Close ends the refreshing and waits for it. Verify goes on with the keys at
// hand.
func (v *Verifier) Close() { v.ring.close() }

// Verify returns who a token stands for, or an Unauthenticated *punch.Error
// whose message says what is wrong with the token. A token whose key is not
// known may wait for the keys to be read anew, at most as long as ctx lives.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if err := plausible(token); err != nil {
		v.tokens.Add(ctx, 1, v.rejected)
		return Identity{}, err
	}
	digest := sha256.Sum256([]byte(token))
	if got, ok := v.seen.GetIfPresent(digest); ok &&
		got.generation == v.ring.current.Load().generation && v.clock().Before(got.expires) {
		v.tokens.Add(ctx, 1, v.fromCache)
		return got.identity, nil
	}
	got, err := v.check(ctx, token)
	if err != nil {
		// Refusals are not kept: whoever sends rubbish must not push out
		// the tokens of those who do not.
		v.tokens.Add(ctx, 1, v.rejected)
		return Identity{}, err
	}
	v.seen.Set(digest, got)
	v.tokens.Add(ctx, 1, v.accepted)
	return got.identity, nil
}
