package auth

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const unknownKey = "the token is signed with an unknown key"

func TestNewKeyInTheFileIsFoundOnDemand(t *testing.T) {
	old, next := mustKey(t, "2026-01", jose.EdDSA), mustKey(t, "2026-02", jose.ES256)
	b := mustVerifier(t, old)
	b.mustAccept(t, old.sign(t, goodClaims(b.clock.Now(), nil)))
	mustWrite(t, b.file, keySetOf(t, old, next))
	b.mustAccept(t, next.sign(t, goodClaims(b.clock.Now(), nil)))
	b.mustAccept(t, old.sign(t, goodClaims(b.clock.Now(), nil)))
}

func TestRemovedKeyIsRefusedAfterTheNextRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := mustKey(t, "old", jose.EdDSA), mustKey(t, "next", jose.EdDSA)
		b := mustVerifier(t, old, next)
		token := old.sign(t, goodClaims(b.clock.Now(), nil))
		b.mustAccept(t, token)
		mustWrite(t, b.file, keySetOf(t, next))
		b.mustAccept(t, token)
		time.Sleep(b.keys.source.period + time.Second) // the bubble's clock
		synctest.Wait()
		b.mustRefuse(t, token, unknownKey)
		b.Close()
	})
}

func TestABadFileIsIgnored(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	for name, content := range map[string]string{"gone": "", "not JSON": "{", "no keys": `{"keys":[]}`, "too large": strings.Repeat(" ", maxKeySet+1)} {
		t.Run(name, func(t *testing.T) {
			b := mustVerifier(t, k)
			if content == "" {
				if err := os.Remove(b.file); err != nil {
					t.Fatal(err)
				}
			} else {
				mustWrite(t, b.file, []byte(content))
			}
			b.mustRefuse(t, mustKey(t, "unknown", jose.EdDSA).sign(t, goodClaims(b.clock.Now(), nil)), unknownKey)
			if failed := b.count(t, "punchclock.auth.key_refreshes", "failed"); failed != 1 {
				t.Errorf("%d refreshes failed, want 1", failed)
			}
			b.mustAccept(t, k.sign(t, goodClaims(b.clock.Now(), nil)))
		})
	}
}

func TestKeysThatCannotBeUsedAreLeftOut(t *testing.T) {
	good := mustKey(t, "good", jose.EdDSA)
	encryption := good.public()
	encryption.KeyID, encryption.Use = "enc", "enc"
	pinned := mustKey(t, "pinned", jose.RS256).public()
	pinned.Algorithm = string(jose.PS256)
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: good.private, KeyID: "private"}, {Key: []byte(strings.Repeat("s", 32)), KeyID: "secret"},
		{Key: mustKey(t, "", jose.ES384).private.Public(), KeyID: "p384"}, {Key: good.private.Public()},
		encryption, good.public(), mustKey(t, "good", jose.EdDSA).public(), pinned,
	}}
	keys, skipped, err := parseKeys(mustJSON(t, set))
	if err != nil || len(keys) != 2 || len(skipped) != 6 {
		t.Fatalf("parseKeys = %d keys, skipped %v, error %v; want 2 keys and 6 skipped", len(keys), skipped, err)
	}
	if got := keys["pinned"].algorithms; len(got) != 1 || got[0] != jose.PS256 {
		t.Errorf("the key pinned to PS256 verifies %v", got)
	}
}

// issuer is a real HTTP server that publishes a key set.
type issuer struct {
	*httptest.Server
	answer atomic.Pointer[func(w http.ResponseWriter)]
	asked  atomic.Int64
}

func mustIssuer(tb testing.TB, body []byte) *issuer {
	tb.Helper()
	i := &issuer{}
	i.publish(body)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		(*i.answer.Load())(w)
	}))
	tb.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(body []byte) {
	answer := func(w http.ResponseWriter) { _, _ = w.Write(body) } // the reader reports what is missing
	i.answer.Store(&answer)
}

func (i *issuer) fail(status int) {
	answer := func(w http.ResponseWriter) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}
	i.answer.Store(&answer)
}

func TestKeysFromURL(t *testing.T) {
	old, next := mustKey(t, "old", jose.EdDSA), mustKey(t, "next", jose.EdDSA)
	srv := mustIssuer(t, keySetOf(t, old))
	b := &fixture{}
	b.start(t, Config{JWKS: srv.URL + "/jwks"})
	b.mustAccept(t, old.sign(t, goodClaims(b.clock.Now(), nil)))

	srv.publish(keySetOf(t, next))
	b.mustAccept(t, next.sign(t, goodClaims(b.clock.Now(), nil)))
	b.mustRefuse(t, old.sign(t, goodClaims(b.clock.Now(), nil)), unknownKey)

	for _, status := range []int{http.StatusInternalServerError, http.StatusFound} {
		srv.fail(status)
		b.clock.Advance(b.keys.source.onDemand)
		b.mustRefuse(t, old.sign(t, goodClaims(b.clock.Now(), nil)), unknownKey)
		b.mustAccept(t, next.sign(t, goodClaims(b.clock.Now(), nil)))
	}
	if failed := b.count(t, "punchclock.auth.key_refreshes", "failed"); failed != 2 {
		t.Errorf("%d refreshes failed, want 2", failed)
	}
}

func TestUnknownKeysDoNotFloodTheIssuer(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	srv := mustIssuer(t, keySetOf(t, k))
	b := &fixture{}
	b.start(t, Config{JWKS: srv.URL})
	for i := range 50 {
		b.mustRefuse(t, mustKey(t, fmt.Sprint("unknown-", i), jose.EdDSA).sign(t, goodClaims(b.clock.Now(), nil)), unknownKey)
	}
	if got := srv.asked.Load(); got != 2 {
		t.Errorf("the issuer was asked %d times, want 2: at the start and once on demand", got)
	}
	b.clock.Advance(b.keys.source.onDemand)
	b.mustRefuse(t, mustKey(t, "late", jose.EdDSA).sign(t, goodClaims(b.clock.Now(), nil)), unknownKey)
	if got := srv.asked.Load(); got != 3 {
		t.Errorf("the issuer was asked %d times after the pause, want 3", got)
	}
}

func TestWaitingForTheIssuerEndsWithTheCaller(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	srv := mustIssuer(t, keySetOf(t, k))
	b := &fixture{}
	b.start(t, Config{JWKS: srv.URL})
	hang := make(chan struct{})
	defer close(hang)
	answer := func(http.ResponseWriter) { <-hang }
	srv.answer.Store(&answer)

	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error)
	go func() {
		_, err := b.Verify(ctx, mustKey(t, "unknown", jose.EdDSA).sign(t, goodClaims(b.clock.Now(), nil)))
		refused <- err
	}()
	eventually(t, "the issuer is asked", func() bool { return srv.asked.Load() == 2 })
	b.mustAccept(t, k.sign(t, goodClaims(b.clock.Now(), nil))) // others do not wait
	cancel()
	if err := <-refused; err == nil {
		t.Error("a token with an unknown key was accepted")
	}
}

func TestRestartWhileTheIssuerIsAway(t *testing.T) {
	k, next := mustKey(t, "ed", jose.EdDSA), mustKey(t, "next", jose.EdDSA)
	srv := mustIssuer(t, keySetOf(t, k))
	cfg := Config{JWKS: srv.URL, CacheFile: filepath.Join(t.TempDir(), "kept.json")}
	b := &fixture{}
	b.start(t, cfg)
	b.Close()
	if got, want := mustRead(t, cfg.CacheFile), string(keySetOf(t, k)); got != want {
		t.Fatalf("the cache file holds %q, want %q", got, want)
	}

	srv.fail(http.StatusBadGateway)
	b.start(t, cfg)
	b.mustAccept(t, k.sign(t, goodClaims(b.clock.Now(), nil)))
	srv.publish(keySetOf(t, k, next))
	b.mustAccept(t, next.sign(t, goodClaims(b.clock.Now(), nil)))
	if got, want := mustRead(t, cfg.CacheFile), string(keySetOf(t, k, next)); got != want {
		t.Errorf("the cache file holds %q after the issuer came back, want %q", got, want)
	}
}

func TestStartFails(t *testing.T) {
	gone := mustIssuer(t, nil)
	gone.fail(http.StatusNotFound)
	dev := mustKey(t, "dev-x", jose.EdDSA)
	devFile := filepath.Join(t.TempDir(), "dev.json")
	mustWrite(t, devFile, keySetOf(t, dev, mustKey(t, "prod", jose.EdDSA)))
	kept := filepath.Join(t.TempDir(), "kept.json")
	mustWrite(t, kept, keySetOf(t, mustKey(t, "prod", jose.EdDSA)))
	tests := map[string]struct {
		cfg  Config
		want string
	}{
		"no file":                  {Config{JWKS: filepath.Join(t.TempDir(), "none.json")}, "none.json"},
		"issuer away":              {Config{JWKS: gone.URL}, "404"},
		"issuer away, none kept":   {Config{JWKS: gone.URL, CacheFile: filepath.Join(t.TempDir(), "kept")}, "kept"},
		"development key":          {Config{JWKS: devFile}, "development key dev-x"},
		"development key, kept":    {Config{JWKS: devFile, CacheFile: kept}, "development key dev-x"},
		"issuer away, dev in kept": {Config{JWKS: gone.URL, CacheFile: devFile}, "development key dev-x"},
		"no source":                {Config{}, "JWKS is not set"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Issuer, tt.cfg.Audience = testIssuer, testAudience
			v, err := New(tt.cfg, testDeps(&bytes.Buffer{}))
			if err == nil {
				err = v.Start(t.Context())
				v.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New = %v, want an error that says %q", err, tt.want)
			}
		})
	}
}

func TestADevelopmentKeyThatAppearsLaterIsLeftOut(t *testing.T) {
	prod, next, dev := mustKey(t, "prod", jose.EdDSA), mustKey(t, "next", jose.EdDSA), mustKey(t, "dev-1", jose.EdDSA)
	file := filepath.Join(t.TempDir(), "jwks.json")
	mustWrite(t, file, keySetOf(t, prod))
	var log bytes.Buffer
	v, err := New(Config{JWKS: file, Issuer: testIssuer, Audience: testAudience}, testDeps(&log))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := &fixture{Verifier: v, clock: &clock{}}
	mustWrite(t, file, keySetOf(t, next, dev))
	b.mustRefuse(t, dev.sign(t, goodClaims(time.Now(), nil)), unknownKey)
	b.mustAccept(t, next.sign(t, goodClaims(time.Now(), nil)))
	v.Close() // the goroutine writes to log no more
	if got := log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "dev-1") {
		t.Errorf("the log says nothing of the development key: %q", got)
	}
}

func TestStartStopStress(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	file := filepath.Join(t.TempDir(), "jwks.json")
	mustWrite(t, file, keySetOf(t, k))
	token := mustKey(t, "unknown", jose.EdDSA).sign(t, goodClaims(time.Now(), nil))
	for range 50 {
		v, err := New(Config{JWKS: file, Issuer: testIssuer, Audience: testAudience}, testDeps(&bytes.Buffer{}))
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 3 {
				if _, err := v.Verify(context.Background(), token); err == nil {
					t.Error("a token with an unknown key was accepted")
				}
			}
		}()
		v.Close()
		<-done
	}
}
