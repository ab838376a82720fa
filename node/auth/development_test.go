package auth

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func testClaims() Claims {
	return Claims{
		Company: "acme", Subject: "gate-1", Role: Kiosk,
		Issuer: testIssuer, Audience: testAudience, TTL: time.Hour,
	}
}

func TestMintedTokenIsAccepted(t *testing.T) {
	dir := t.TempDir()
	o := TokenOptions{Claims: testClaims(), KeyFile: filepath.Join(dir, "key.json"), NewKey: true, JWKSFile: filepath.Join(dir, "jwks.json")}
	var first, second bytes.Buffer
	if err := WriteToken(&first, o, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := WriteToken(&second, o, time.Now()); err != nil { // the key is there now
		t.Fatal(err)
	}
	if info, err := os.Stat(o.KeyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key's file: %v %v, want mode 0600", info.Mode(), err)
	}
	if public := mustRead(t, o.JWKSFile); strings.Contains(public, `"d"`) {
		t.Errorf("the key set holds the private key: %s", public)
	}
	b := &fixture{}
	b.start(t, Config{JWKS: o.JWKSFile, Development: true})
	want := Identity{Company: "acme", Subject: "gate-1", Role: Kiosk}
	for _, token := range []string{first.String(), second.String()} {
		if got := b.mustAccept(t, strings.TrimSuffix(token, "\n")); got != want {
			t.Errorf("Verify = %+v, want %+v", got, want)
		}
	}
}

func TestMintRefuses(t *testing.T) {
	key, err := NewDevelopmentKey()
	if err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Claims){
		"company":                         func(g *Claims) { g.Company = "a b" },
		"subject":                         func(g *Claims) { g.Subject = "" },
		"subject: of an employee's token": func(g *Claims) { g.Role, g.Subject = Employee, "auth0|5f7c" },
		"role":                            func(g *Claims) { g.Role = "boss" },
		"ttl":                             func(g *Claims) { g.TTL = 0 },
	} {
		g := testClaims()
		change(&g)
		if _, err := key.Sign(g, time.Now()); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Sign with a bad %s = %v, want an error that names it", field, err)
		}
	}
}

func TestDevelopmentKeyFiles(t *testing.T) {
	key, err := NewDevelopmentKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	err = WriteToken(&bytes.Buffer{}, TokenOptions{Claims: testClaims(), KeyFile: path}, time.Now())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteToken without a key = %v, want that there is no such file", err)
	}
	if err := key.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if err := key.WriteFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("WriteFile over a key = %v, want that it exists", err)
	}
	if got, err := ReadDevelopmentKey(path); err != nil || got.private.KeyID != key.private.KeyID {
		t.Errorf("ReadDevelopmentKey = %q, %v; want %q", got.private.KeyID, err, key.private.KeyID)
	}
	prod := mustKey(t, "prod-1", jose.EdDSA)
	production := filepath.Join(t.TempDir(), "prod.json")
	mustWrite(t, production, mustJSON(t, jose.JSONWebKey{Key: prod.private, KeyID: prod.id}))
	if _, err := ReadDevelopmentKey(production); err == nil {
		t.Error("a production key was taken for a development key")
	}
}
