package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/punchclock/punchclock/node/punch"
)

// DevelopmentKey signs tokens for demos and tests. A Verifier with production
// settings refuses it by its id.
type DevelopmentKey struct{ private jose.JSONWebKey }

// NewDevelopmentKey makes an Ed25519 key with a random id.
func NewDevelopmentKey() (DevelopmentKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return DevelopmentKey{}, err
	}
	return DevelopmentKey{jose.JSONWebKey{
		Key: private, KeyID: developmentPrefix + strings.ToLower(rand.Text()[:10]),
		Algorithm: string(jose.EdDSA), Use: "sig",
	}}, nil
}

// ReadDevelopmentKey reads what WriteFile wrote. Any other private key is an
// error: tokens of a production key are for its issuer alone to make.
func ReadDevelopmentKey(path string) (DevelopmentKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return DevelopmentKey{}, err
	}
	var k DevelopmentKey
	if err := k.private.UnmarshalJSON(b); err != nil {
		return DevelopmentKey{}, fmt.Errorf("%s: %w", path, err)
	}
	_, private := k.private.Key.(ed25519.PrivateKey)
	if !private || !strings.HasPrefix(k.private.KeyID, developmentPrefix) {
		return DevelopmentKey{}, fmt.Errorf("%s: is not a development key: an Ed25519 private key whose kid starts with %q", path, developmentPrefix)
	}
	return k, nil
}

// WriteFile writes the private key as a JWK, readable by its owner alone. It
// never overwrites a file.
func (k DevelopmentKey) WriteFile(path string) error {
	b, err := json.Marshal(k.private)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Close())
}

// WriteJWKS writes the set with the public key alone, replacing a file that is
// there.
func (k DevelopmentKey) WriteJWKS(path string) error {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k.private.Public()}})
	if err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'), 0o644)
}

// Grant is what a token says.
type Grant struct {
	Identity
	Issuer, Audience string
	TTL              time.Duration // how long it holds, more than 0
}

func (g Grant) validate() error {
	switch {
	case !punch.ValidName(g.Company):
		return errors.New("company: must be 1 to 64 of letters, digits, '.', '_' and '-'")
	case !punch.ValidName(g.Subject):
		return errors.New("subject: must be 1 to 64 of letters, digits, '.', '_' and '-'")
	case !validRole(g.Role):
		return errors.New("role: must be employee, kiosk, manager or operator")
	case g.TTL <= 0:
		return errors.New("ttl: must be more than 0")
	default:
		return nil
	}
}

// Mint makes a token that holds from now on.
func (k DevelopmentKey) Mint(g Grant, now time.Time) (string, error) {
	if err := g.validate(); err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: k.private}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: g.Issuer, Subject: g.Subject, Audience: jwt.Audience{g.Audience},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(g.TTL)),
		},
		Company: g.Company, Role: g.Role,
	}).Serialize()
}

// MintOptions says which token to mint with which key.
type MintOptions struct {
	Grant
	KeyFile string // private key
	// NewKey makes KeyFile when it is missing, and JWKSFile from it.
	NewKey   bool
	JWKSFile string // key set for the nodes to read; only written by NewKey
}

// MintTo prints a token, valid from now, and a newline to w.
func MintTo(w io.Writer, o MintOptions, now time.Time) error {
	key, err := ReadDevelopmentKey(o.KeyFile)
	if errors.Is(err, fs.ErrNotExist) && o.NewKey {
		key, err = createKey(o.KeyFile, o.JWKSFile)
	}
	if err != nil {
		return fmt.Errorf("development key: %w", err)
	}
	token, err := key.Mint(o.Grant, now)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, token)
	return err
}

func createKey(keyFile, jwksFile string) (DevelopmentKey, error) {
	key, err := NewDevelopmentKey()
	if err == nil {
		err = key.WriteFile(keyFile)
	}
	if err == nil && jwksFile != "" {
		err = key.WriteJWKS(jwksFile)
	}
	return key, err
}
