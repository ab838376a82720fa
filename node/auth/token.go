package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/punchclock/punchclock/node/punch"
)

const (
	// maxToken bounds a token in bytes: an RSA signature and a few dozen
	// claims take 2 kB.
	maxToken = 8 << 10
	// leeway is how far the issuer's clock may be off ours; both are
	// servers that keep time.
	leeway = 30 * time.Second
)

// claims are what a token must say beside the registered claims.
type claims struct {
	jwt.Claims
	Company string `json:"company"`
	Role    Role   `json:"role"`
}

func refuse(message string) *punch.Error {
	return &punch.Error{Code: punch.Unauthenticated, Message: message}
}

func plausible(token string) error {
	switch {
	case token == "":
		return refuse("a bearer token is required")
	case len(token) > maxToken:
		return refuse("the token is too long")
	default:
		return nil
	}
}

// check verifies a token's signature first and looks at what it claims only
// then.
func (v *Verifier) check(ctx context.Context, token string) (verified, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return verified{}, refuse("the token is not a JWT signed with one of EdDSA, ES256, RS256 and PS256")
	}
	header := parsed.Headers[0]
	if header.KeyID == "" {
		return verified{}, refuse("the token does not name its key (kid)")
	}
	key, set, ok := v.ring.find(ctx, header.KeyID)
	if !ok {
		return verified{}, refuse("the token is signed with a key that is not known here")
	}
	if !slices.Contains(key.algorithms, jose.SignatureAlgorithm(header.Algorithm)) {
		return verified{}, refuse("the token's algorithm does not fit its key")
	}
	var c claims
	if err := parsed.Claims(key.public, &c); errors.Is(err, jose.ErrCryptoFailure) {
		return verified{}, refuse("the token's signature does not hold")
	} else if err != nil {
		return verified{}, refuse("the token's claims cannot be read")
	}
	if err := v.checkClaims(&c); err != nil {
		return verified{}, err
	}
	return verified{
		identity:   Identity{Company: c.Company, Subject: c.Subject, Role: c.Role},
		expires:    c.Expiry.Time().Add(leeway),
		generation: set.generation,
	}, nil
}

func (v *Verifier) checkClaims(c *claims) error {
	if c.Expiry == nil {
		return refuse("the token has no expiry (exp)")
	}
	err := c.ValidateWithLeeway(jwt.Expected{
		Issuer: v.issuer, AnyAudience: jwt.Audience{v.audience}, Time: v.clock(),
	}, leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return refuse("the token is from another issuer (iss)")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return refuse("the token is for another audience (aud)")
	case errors.Is(err, jwt.ErrExpired):
		return refuse("the token has expired (exp)")
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return refuse("the token is not valid yet (nbf, iat)")
	case err != nil:
		return refuse("the token's claims do not hold")
	case !punch.ValidName(c.Company):
		return refuse("the token names no valid company (company)")
	case !punch.ValidName(c.Subject):
		return refuse("the token names no valid subject (sub)")
	case !validRole(c.Role):
		return refuse("the token's role must be employee, kiosk, manager or operator (role)")
	default:
		return nil
	}
}
