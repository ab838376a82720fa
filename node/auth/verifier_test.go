package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/punchclock/punchclock/node/punch"
)

func TestVerifyAcceptsEveryFixedAlgorithm(t *testing.T) {
	keys := []key{mustKey(t, "ed", jose.EdDSA), mustKey(t, "ec", jose.ES256), mustKey(t, "rs", jose.RS256), mustKey(t, "ps", jose.PS256)}
	b := mustVerifier(t, keys...)
	for _, k := range keys {
		got := b.mustAccept(t, k.sign(t, goodClaims(b.clock.Now(), map[string]any{"role": "manager", "aud": []string{"other", testAudience}})))
		if want := (Identity{Company: "acme", Subject: "e-7", Role: Manager}); got != want {
			t.Errorf("%s: Verify = %+v, want %+v", k.alg, got, want)
		}
	}
}

func TestVerifyRefusesClaims(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	b := mustVerifier(t, k)
	now := b.clock.Now()
	tests := []struct {
		name    string
		changes map[string]any
		message string
	}{
		{"another issuer", map[string]any{"iss": "https://evil.test"}, "the token is from another issuer (iss)"},
		{"no issuer", map[string]any{"iss": nil}, "the token is from another issuer (iss)"},
		{"another audience", map[string]any{"aud": "payroll"}, "the token is for another audience (aud)"},
		{"no audience", map[string]any{"aud": nil}, "the token is for another audience (aud)"},
		{"expired", map[string]any{"exp": now.Add(-leeway - 2*time.Second).Unix()}, "the token has expired (exp)"},
		{"absurd expiry", map[string]any{"exp": int64(1) << 62}, "the token's claims cannot be read"},
		{"no expiry", map[string]any{"exp": nil}, "the token has no expiry (exp)"},
		{"expiry is text", map[string]any{"exp": "tomorrow"}, "the token's claims cannot be read"},
		{"not yet", map[string]any{"nbf": now.Add(leeway + 5*time.Second).Unix()}, "the token is not valid yet (nbf, iat)"},
		{"issued later", map[string]any{"iat": now.Add(leeway + 5*time.Second).Unix()}, "the token is not valid yet (nbf, iat)"},
		{"no company", map[string]any{"company": nil}, "the token names no valid company (company)"},
		{"bad company", map[string]any{"company": "acme/../x"}, "the token names no valid company (company)"},
		{"company is a number", map[string]any{"company": 5}, "the token's claims cannot be read"},
		{"no subject", map[string]any{"sub": nil}, "the token names no valid subject (sub)"},
		{"long subject", map[string]any{"sub": strings.Repeat("x", maxSubject+1)}, "the token names no valid subject (sub)"},
		{"subject with a control character", map[string]any{"sub": "a\nb", "role": "manager"}, "the token names no valid subject (sub)"},
		{"subject is a number", map[string]any{"sub": 5}, "the token's claims cannot be read"},
		{"no role", map[string]any{"role": nil}, "the token's role must be employee, kiosk, manager or operator (role)"},
		{"bad role", map[string]any{"role": "Operator"}, "the token's role must be employee, kiosk, manager or operator (role)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.mustRefuse(t, k.sign(t, goodClaims(now, tt.changes)), tt.message)
		})
	}
	b.mustAccept(t, k.sign(t, goodClaims(now, map[string]any{
		"exp": now.Add(-leeway / 2).Unix(), "nbf": now.Add(leeway / 2).Unix(), "iat": now.Add(leeway / 2).Unix(),
	})))
}

// TestSubjectsAreOpaque takes the subjects of identity providers. Only an employee's token must name an employee.
func TestSubjectsAreOpaque(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	b := mustVerifier(t, k)
	const noEmployee = "the token is an employee's, and its claim sub is no employee id: " + punch.EmployeeRule +
		" (the setting --token-employee-claim chooses the claim)"
	for _, subject := range []string{
		"auth0|5f7c8ec7c33c6c004bbafe82", "anna.schmidt+clock@example.com", "QWxhZGRpbjpvcGVuc2VzYW1l/+=", "google-oauth2|1081", "späte Ünïcode ✓",
		strings.Repeat("x", maxSubject), "a", ".",
	} {
		for _, role := range []Role{Kiosk, Manager, Operator} {
			got := b.mustAccept(t, k.sign(t, goodClaims(b.clock.Now(), map[string]any{"sub": subject, "role": string(role)})))
			if want := (Identity{Company: "acme", Subject: subject, Role: role}); got != want {
				t.Errorf("Verify = %+v, want %+v", got, want)
			}
		}
		token := k.sign(t, goodClaims(b.clock.Now(), map[string]any{"sub": subject, "role": "employee"}))
		if !punch.ValidEmployee(subject) {
			b.mustRefuse(t, token, noEmployee)
			continue
		}
		if got := b.mustAccept(t, token); got.Employee != subject || !got.MayPunch(subject) || !got.MayRead(subject) || got.MayPunch("other") {
			t.Errorf("the token of employee %s is %+v", subject, got)
		}
	}
}

// TestEmployeeClaim reads the employee from another claim than the subject.
func TestEmployeeClaim(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	const claim = "https://example.com/employee"
	b := &fixture{file: filepath.Join(t.TempDir(), "jwks.json")}
	mustWrite(t, b.file, keySetOf(t, k))
	b.start(t, Config{JWKS: b.file, EmployeeClaim: claim})
	token := func(role string, employee any) string {
		return k.sign(t, goodClaims(b.clock.Now(), map[string]any{"sub": "auth0|5f7c", "role": role, claim: employee}))
	}
	want := Identity{Company: "acme", Subject: "auth0|5f7c", Employee: "anna@example.com", Role: Employee}
	if got := b.mustAccept(t, token("employee", "anna@example.com")); got != want {
		t.Errorf("Verify = %+v, want %+v", got, want)
	}
	if got := b.mustAccept(t, token("manager", nil)); got.Employee != "" || got.Subject != "auth0|5f7c" {
		t.Errorf("a manager without the claim is %+v", got)
	}
	for _, bad := range []any{nil, "", "a/b", 1042, []string{"anna"}} {
		_, err := b.Verify(t.Context(), token("employee", bad))
		if e := punch.AsError(err); e.Code != punch.Unauthenticated || e.Code.Final() || !strings.Contains(e.Message, "its claim "+claim) {
			t.Errorf("the employee %v: %v, want a refusal that names the claim", bad, err)
		}
	}
}

func TestVerifyRefusesForgeries(t *testing.T) {
	ed, rs := mustKey(t, "ed", jose.EdDSA), mustKey(t, "rs", jose.RS256)
	b := mustVerifier(t, ed, rs)
	claims := goodClaims(b.clock.Now(), map[string]any{"role": "operator"})
	const notJWT = "the token is not a JWT signed with one of EdDSA, ES256, RS256 and PS256"
	const badSignature = "the token's signature is not valid"

	good := ed.sign(t, claims)
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"ed"}`)) + "." + payload + "."
	other := base64.RawURLEncoding.EncodeToString(mustJSON(t, goodClaims(b.clock.Now(), map[string]any{"company": "rival"})))

	tests := map[string]struct{ token, message string }{
		"nothing":              {"", "a bearer token is required"},
		"too long":             {strings.Repeat("a", maxToken+1), "the token is too long"},
		"rubbish":              {"a.b.c", notJWT},
		"alg none":             {unsigned, notJWT},
		"payload exchanged":    {header + "." + other + "." + signature, badSignature},
		"signature cut":        {header + "." + payload + ".", badSignature},
		"JSON form":            {`{"payload":"` + payload + `","protected":"` + header + `","signature":"` + signature + `"}`, notJWT},
		"unknown key":          {mustKey(t, "unknown", jose.EdDSA).sign(t, claims), "the token is signed with an unknown key"},
		"another key's id":     {mustKey(t, "ed", jose.EdDSA).sign(t, claims), badSignature},
		"no key id":            {mustSign(t, jose.SigningKey{Algorithm: ed.alg, Key: ed.private}, claims), "the token does not name its key (kid)"},
		"another key's type":   {key{id: "rs", alg: ed.alg, private: ed.private}.sign(t, claims), "the token's algorithm does not fit its key"},
		"claims are a list":    {ed.sign(t, []string{"x"}), "the token's claims cannot be read"},
		"algorithm not fixed":  {mustKey(t, "ed", jose.ES384).sign(t, claims), notJWT},
		"secret: Ed25519 raw":  {hmac(t, "ed", ed.private.Public().(ed25519.PublicKey), claims), notJWT},
		"secret: RSA PEM":      {hmac(t, "rs", pemOf(t, rs), claims), notJWT},
		"secret: the JWK":      {hmac(t, "rs", mustJSON(t, rs.public()), claims), notJWT},
		"key inside the token": {embedded(t, claims), "the token does not name its key (kid)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { b.mustRefuse(t, tt.token, tt.message) })
	}
	b.mustAccept(t, good)
}

// hmac signs with a public key as the secret. Verifiers that let the token choose the algorithm accept that.
func hmac(tb testing.TB, id string, secret []byte, claims any) string {
	secret = append(secret, bytes.Repeat([]byte{0}, max(0, 32-len(secret)))...)
	return mustSign(tb, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: secret, KeyID: id}}, claims)
}

func pemOf(tb testing.TB, k key) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// embedded carries its own key in the header.
func embedded(tb testing.TB, claims any) string {
	tb.Helper()
	k := mustKey(tb, "", jose.EdDSA)
	return mustSignWith(tb, jose.SigningKey{Algorithm: k.alg, Key: k.private}, &jose.SignerOptions{EmbedJWK: true}, claims)
}

func TestVerifiedTokensAreKeptUntilTheyExpire(t *testing.T) {
	k := mustKey(t, "ed", jose.EdDSA)
	b := mustVerifier(t, k)
	token := k.sign(t, goodClaims(b.clock.Now(), nil))
	first := b.mustAccept(t, token)
	b.clock.Advance(59 * time.Minute)
	if again := b.mustAccept(t, token); again != first {
		t.Errorf("Verify from memory = %+v, want %+v", again, first)
	}
	if verified, cached := b.count(t, "punchclock.auth.tokens", "verified"), b.count(t, "punchclock.auth.tokens", "cached"); verified != 1 || cached != 1 {
		t.Errorf("verified %d times and cached %d times, want 1 and 1", verified, cached)
	}
	b.clock.Advance(time.Minute + leeway + 2*time.Second)
	b.mustRefuse(t, token, "the token has expired (exp)")
	b.mustRefuse(t, token, "the token has expired (exp)")
	if refused := b.count(t, "punchclock.auth.tokens", "refused"); refused != 2 {
		t.Errorf("refused %d times, want 2: refusals are not kept", refused)
	}
}

// FuzzVerify looks for panics, and for accepted texts other than the good token.
func FuzzVerify(f *testing.F) {
	k := mustKey(f, "ed", jose.EdDSA)
	b := mustVerifier(f, k)
	good := k.sign(f, goodClaims(b.clock.Now(), nil))
	f.Add(good)
	f.Add(hmac(f, "ed", k.private.Public().(ed25519.PublicKey), goodClaims(b.clock.Now(), nil)))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := b.Verify(t.Context(), token); err == nil && token != good {
			t.Errorf("Verify(%q) = %+v, want a refusal", token, id)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(keySetOf(f, mustKey(f, "ed", jose.EdDSA), mustKey(f, "ec", jose.ES256)))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"},{"kty":"oct","k":"AAAA","kid":"s"}]}`))
	f.Add([]byte(`{"keys":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		keys, _, err := parseKeys(raw)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("parseKeys gave %d keys and error %v", len(keys), err)
		}
		for id, k := range keys {
			if id == "" || len(k.algorithms) == 0 {
				t.Errorf("key %q with algorithms %v was accepted", id, k.algorithms)
			}
		}
	})
}

func BenchmarkVerifyKnownToken(b *testing.B) {
	k := mustKey(b, "ed", jose.EdDSA)
	v := mustVerifier(b, k)
	token := k.sign(b, goodClaims(v.clock.Now(), nil))
	v.mustAccept(b, token)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
