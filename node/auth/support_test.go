package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/punch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testIssuer   = "https://issuer.test"
	testAudience = "punchclock"
)

// clock is a clock that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(int64(d)) }

// key is an issuer's key pair.
type key struct {
	id      string
	alg     jose.SignatureAlgorithm
	private crypto.Signer
}

func mustKey(tb testing.TB, id string, alg jose.SignatureAlgorithm) key {
	tb.Helper()
	var (
		private crypto.Signer
		err     error
	)
	switch alg {
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		private = rsaKey()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return key{id: id, alg: alg, private: private}
}

// rsaKey is made once: it takes a second under the race detector.
var rsaKey = sync.OnceValue(func() crypto.Signer {
	k, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		panic(err)
	}
	return k
})

func (k key) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Use: "sig"}
}

func keySetOf(tb testing.TB, keys ...key) []byte {
	tb.Helper()
	var set jose.JSONWebKeySet
	for _, k := range keys {
		set.Keys = append(set.Keys, k.public())
	}
	return mustJSON(tb, set)
}

func mustJSON(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func mustWrite(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := replaceFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// goodClaims are claims that are valid now, with the given changes. A nil removes a claim.
func goodClaims(now time.Time, changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": testIssuer, "aud": testAudience, "sub": "e-7", "company": "acme", "role": "employee",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (k key) sign(tb testing.TB, claims any) string {
	tb.Helper()
	return mustSign(tb, jose.SigningKey{Algorithm: k.alg, Key: jose.JSONWebKey{Key: k.private, KeyID: k.id}}, claims)
}

func mustSign(tb testing.TB, with jose.SigningKey, claims any) string {
	tb.Helper()
	return mustSignWith(tb, with, nil, claims)
}

func mustSignWith(tb testing.TB, with jose.SigningKey, opts *jose.SignerOptions, claims any) string {
	tb.Helper()
	signer, err := jose.NewSigner(with, opts)
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := signer.Sign(mustJSON(tb, claims))
	if err != nil {
		tb.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// fixture is a Verifier with its key file, clock and metrics.
type fixture struct {
	*Verifier
	clock   *clock
	file    string
	metrics *metric.ManualReader
}

func mustVerifier(tb testing.TB, keys ...key) *fixture {
	tb.Helper()
	b := &fixture{file: filepath.Join(tb.TempDir(), "jwks.json")}
	mustWrite(tb, b.file, keySetOf(tb, keys...))
	b.start(tb, Config{JWKS: b.file})
	return b
}

func (b *fixture) start(tb testing.TB, cfg Config) {
	tb.Helper()
	b.clock = &clock{}
	b.metrics = metric.NewManualReader()
	deps := testDeps(io.Discard)
	deps.Clock = b.clock.Now
	deps.Meter = metric.NewMeterProvider(metric.WithReader(b.metrics))
	cfg.Issuer, cfg.Audience = testIssuer, testAudience
	v, err := New(cfg, deps)
	if err != nil {
		tb.Fatal(err)
	}
	if err := v.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(v.Close)
	b.Verifier = v
}

func testDeps(log io.Writer) Deps {
	return Deps{
		Log: slog.New(slog.NewTextHandler(log, nil)), Clock: time.Now,
		Meter: metric.NewMeterProvider(),
	}
}

// count returns the value of a counter for an outcome.
func (b *fixture) count(tb testing.TB, name, outcome string) int64 {
	tb.Helper()
	var all metricdata.ResourceMetrics
	if err := b.metrics.Collect(context.Background(), &all); err != nil {
		tb.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if m.Name != name || !ok {
				continue
			}
			for _, p := range sum.DataPoints {
				if got, _ := p.Attributes.Value("outcome"); got.AsString() == outcome {
					return p.Value
				}
			}
		}
	}
	return 0
}

func (b *fixture) mustAccept(tb testing.TB, token string) Identity {
	tb.Helper()
	id, err := b.Verify(tb.Context(), token)
	if err != nil {
		tb.Fatalf("Verify refused a valid token: %v", err)
	}
	return id
}

func (b *fixture) mustRefuse(tb testing.TB, token, message string) {
	tb.Helper()
	id, err := b.Verify(tb.Context(), token)
	if err == nil {
		tb.Fatalf("Verify accepted %+v, want a refusal with %q", id, message)
	}
	if e := punch.AsError(err); e.Code != punch.Unauthenticated || e.Message != message {
		tb.Fatalf("Verify = %v, want unauthenticated with %q", err, message)
	}
}

// eventually polls until ok, for the effect of another goroutine.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("timed out: %s", what)
		}
	}
}

func mustRead(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}
