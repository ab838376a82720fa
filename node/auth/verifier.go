package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/tracing"
)

// DefaultEmployeeClaim names the employee in the tokens of most issuers.
const DefaultEmployeeClaim = "sub"

// Config says which tokens are valid. JWKS, Issuer and Audience are required.
type Config struct {
	// JWKS is a file or an http(s) URL of a JSON Web Key Set (RFC 7517).
	JWKS     string
	Issuer   string // required "iss"
	Audience string // required among "aud"
	// EmployeeClaim is the claim that names the employee in the token of an employee. Empty is DefaultEmployeeClaim.
	EmployeeClaim string
	// CacheFile keeps the last good key set of a URL over restarts; empty for none.
	CacheFile string
	// Development accepts keys whose id starts with "dev-".
	Development bool
}

// Validate names each setting that is missing.
func (c *Config) Validate() error {
	var missing []error
	for _, setting := range []struct{ name, value string }{{"JWKS", c.JWKS}, {"issuer", c.Issuer}, {"audience", c.Audience}} {
		if setting.value == "" {
			missing = append(missing, fmt.Errorf("tokens: the %s is not set", setting.name))
		}
	}
	return errors.Join(missing...)
}

// Deps is what a Verifier works with.
type Deps struct {
	Log   *slog.Logger
	Meter metric.MeterProvider
	Clock func() time.Time
}

// cacheCapacity bounds the verified tokens in memory; each one takes about 300 bytes. With more devices on one node the
// signatures are verified again, which costs CPU alone.
const cacheCapacity = 100_000

// verified is a token that passed. It is valid until it expires, and only with the key set that verified it. So a
// removed key stops working at the next refresh, however long its tokens would live.
type verified struct {
	identity   Identity
	expires    time.Time
	generation uint64
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	cfg   Config
	clock func() time.Time
	keys  *keyCache
	// tokens is keyed by the digest of each token, so a dump of the memory is no list of tokens.
	tokens *otter.Cache[[sha256.Size]byte, verified]

	fromCache, accepted, rejected *tracing.Counter
}

// New makes a Verifier. It verifies nothing before Start.
func New(cfg Config, deps Deps) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.EmployeeClaim = cmp.Or(cfg.EmployeeClaim, DefaultEmployeeClaim)
	tokens, err := otter.New(&otter.Options[[sha256.Size]byte, verified]{MaximumSize: cacheCapacity})
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	v := &Verifier{cfg: cfg, clock: deps.Clock, tokens: tokens, keys: newKeyCache(cfg, deps)}
	if err := v.register(deps.Meter.Meter("punchclock/auth")); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return v, nil
}

// Start reads the keys and keeps them fresh until Close. It fails without any key, and for a development key that the
// configuration does not allow.
func (v *Verifier) Start(ctx context.Context) error { return v.keys.start(ctx) }

func (v *Verifier) register(meter metric.Meter) (err error) {
	var checked tracing.Counters
	_, err = meter.Int64ObservableCounter("punchclock.auth.tokens",
		metric.WithUnit("{token}"), metric.WithDescription("Tokens checked, by outcome: cached, verified or refused."),
		metric.WithInt64Callback(checked.Observe))
	if err != nil {
		return err
	}
	outcomeKey := attribute.Key("outcome")
	v.fromCache, v.accepted, v.rejected = checked.With(outcomeKey.String("cached")), checked.With(outcomeKey.String("verified")),
		checked.With(outcomeKey.String("refused"))
	refreshes, err := meter.Int64Counter("punchclock.auth.key_refreshes",
		metric.WithUnit("{refresh}"), metric.WithDescription("Reads of the token keys, by outcome: read or failed."))
	if err != nil {
		return err
	}
	v.keys.count = func(name string) {
		refreshes.Add(context.Background(), 1, metric.WithAttributes(outcomeKey.String(name)))
	}

	_, err = meter.Float64ObservableGauge("punchclock.auth.keys_age",
		metric.WithUnit("s"), metric.WithDescription("Age of the token keys; missing when they came from the disk."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			if at := v.keys.refreshed.Load(); at != 0 {
				o.Observe(v.clock().Sub(time.Unix(0, at)).Seconds())
			}
			return nil
		}))
	return err
}

// Close ends the refreshing and waits for its end. Verify goes on with the keys in memory.
func (v *Verifier) Close() { v.keys.close() }

// digestOf needs no memory of the heap for a token of usual length. Each request needs the digest twice.
func digestOf(token string) [sha256.Size]byte {
	var usual [1 << 10]byte
	return sha256.Sum256(append(usual[:0], token...))
}

// Verify returns the identity of a token, or an Unauthenticated *punch.Error whose message says what is wrong with the
// token. For an unknown key it may wait until the keys are read again, at most as long as ctx lives.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if err := checkLength(token); err != nil {
		v.rejected.Add(1)
		return Identity{}, err
	}
	digest := digestOf(token)
	if got, ok := v.tokens.GetIfPresent(digest); ok &&
		got.generation == v.keys.current.Load().generation && v.clock().Before(got.expires) {
		v.fromCache.Add(1)
		return got.identity, nil
	}
	got, err := v.check(ctx, token)
	if err != nil {
		// Refusals are not kept. Otherwise bad tokens would push good ones out of the cache.
		v.rejected.Add(1)
		return Identity{}, err
	}
	v.tokens.Set(digest, got)
	v.accepted.Add(1)
	return got.identity, nil
}
