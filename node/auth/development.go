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

// DevelopmentKey signs tokens for demos and tests. A Verifier with production settings refuses it by its id.
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

// ReadDevelopmentKey reads a file of WriteFile. Any other private key is an error: only its issuer may make tokens of a
// production key.
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

// WriteFile writes the private key as a JWK, readable by its owner alone. It never overwrites a file.
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

// WriteJWKS writes the set with the public key alone, and replaces an existing file.
func (k DevelopmentKey) WriteJWKS(path string) error {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k.private.Public()}})
	if err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'), 0o644)
}

// Claims are the claims of a development token. The subject of an employee's token is the employee.
type Claims struct {
	Company, Subject string
	Role             Role
	Issuer, Audience string
	TTL              time.Duration // how long the token is valid, more than 0
}

func (c *Claims) validate() error {
	switch {
	case !punch.ValidCompany(c.Company):
		return fmt.Errorf("company: %s", punch.NameRule)
	case !validSubject(c.Subject):
		return fmt.Errorf("subject: must be 1 to %d bytes of UTF-8 without control characters", maxSubject)
	case !validRole(c.Role):
		return errors.New("role: must be employee, kiosk, manager or operator")
	case c.Role == Employee && !punch.ValidEmployee(c.Subject):
		return fmt.Errorf("subject: of an employee's token %s", punch.EmployeeRule)
	case c.TTL <= 0:
		return errors.New("ttl: must be more than 0")
	default:
		return nil
	}
}

// Sign makes a token that is valid from now on.
func (k DevelopmentKey) Sign(c Claims, now time.Time) (string, error) {
	if err := c.validate(); err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: k.private}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(payload{
		Claims: jwt.Claims{
			Issuer: c.Issuer, Subject: c.Subject, Audience: jwt.Audience{c.Audience},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(c.TTL)),
		},
		Company: c.Company, Role: c.Role,
	}).Serialize()
}

// TokenOptions are the claims of a token and the files of its key.
type TokenOptions struct {
	Claims
	KeyFile string // private key
	// NewKey makes KeyFile when it is missing, and JWKSFile from it.
	NewKey   bool
	JWKSFile string // key set for the nodes to read; only written by NewKey
}

// WriteToken writes a token that is valid from now on, and a newline, to w.
func WriteToken(w io.Writer, o TokenOptions, now time.Time) error {
	key, err := ReadDevelopmentKey(o.KeyFile)
	if errors.Is(err, fs.ErrNotExist) && o.NewKey {
		key, err = createKey(o.KeyFile, o.JWKSFile)
	}
	if err != nil {
		return fmt.Errorf("development key: %w", err)
	}
	token, err := key.Sign(o.Claims, now)
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
