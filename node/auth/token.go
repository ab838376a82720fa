package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/punchclock/punchclock/node/punch"
)

const (
	// maxToken bounds a token in bytes. An RSA signature and a few dozen claims take 2 kB.
	maxToken = 8 << 10
	// maxSubject bounds a subject in bytes. It is the bound of OpenID Connect Core, section 2.
	maxSubject = 255
	// leeway is how far the issuer's clock may differ from the clock of this node. Both are servers that keep time.
	leeway = 30 * time.Second
)

// payload is what a token must contain, besides the claim that names the employee.
type payload struct {
	jwt.Claims
	Company string `json:"company"`
	Role    Role   `json:"role"`
}

func refuse(message string) *punch.Error {
	return &punch.Error{Code: punch.Unauthenticated, Message: message}
}

func checkLength(token string) error {
	switch {
	case token == "":
		return refuse("a bearer token is required")
	case len(token) > maxToken:
		return refuse("the token is too long")
	default:
		return nil
	}
}

// check verifies the signature of a token and then its claims, in this order.
func (v *Verifier) check(ctx context.Context, token string) (verified, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return verified{}, refuse("the token is not a JWT signed with one of EdDSA, ES256, RS256 and PS256")
	}
	header := parsed.Headers[0]
	if header.KeyID == "" {
		return verified{}, refuse("the token does not name its key (kid)")
	}
	key, set, ok := v.keys.find(ctx, header.KeyID)
	if !ok {
		return verified{}, refuse("the token is signed with an unknown key")
	}
	if !slices.Contains(key.algorithms, jose.SignatureAlgorithm(header.Algorithm)) {
		return verified{}, refuse("the token's algorithm does not fit its key")
	}
	var (
		c   payload
		all map[string]any
	)
	if err := parsed.Claims(key.public, &c, &all); errors.Is(err, jose.ErrCryptoFailure) {
		return verified{}, refuse("the token's signature is not valid")
	} else if err != nil {
		return verified{}, refuse("the token's claims cannot be read")
	}
	if err := v.checkClaims(&c); err != nil {
		return verified{}, err
	}
	id := Identity{Company: c.Company, Subject: c.Subject, Role: c.Role}
	if c.Role == Employee {
		if id.Employee, err = v.employeeOf(all); err != nil {
			return verified{}, err
		}
	}
	return verified{identity: id, expires: c.Expiry.Time().Add(leeway), generation: set.generation}, nil
}

func (v *Verifier) checkClaims(c *payload) error {
	if c.Expiry == nil {
		return refuse("the token has no expiry (exp)")
	}
	err := c.ValidateWithLeeway(jwt.Expected{
		Issuer: v.cfg.Issuer, AnyAudience: jwt.Audience{v.cfg.Audience}, Time: v.clock(),
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
		return refuse("the token's claims are not valid")
	case !punch.ValidCompany(c.Company):
		return refuse("the token names no valid company (company)")
	case !validSubject(c.Subject):
		return refuse("the token names no valid subject (sub)")
	case !validRole(c.Role):
		return refuse("the token's role must be employee, kiosk, manager or operator (role)")
	default:
		return nil
	}
}

// validSubject reports whether s can be a subject. Control characters are refused because subjects go into logs.
func validSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// employeeOf returns the employee that the token of an employee names. A token without a valid employee id is refused
// as a whole: the caller could neither punch nor read.
func (v *Verifier) employeeOf(all map[string]any) (string, error) {
	employee, _ := all[v.cfg.EmployeeClaim].(string)
	if !punch.ValidEmployee(employee) {
		return "", refuse("the token is an employee's, and its claim " + v.cfg.EmployeeClaim + " is no employee id: " + punch.EmployeeRule +
			" (the setting --token-employee-claim chooses the claim)")
	}
	return employee, nil
}
