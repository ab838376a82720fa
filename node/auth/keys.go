package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are the accepted signature algorithms. All are asymmetric: with a symmetric algorithm in the list, a public
// key could serve as the secret.
var algorithms = []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256, jose.RS256, jose.PS256}

// minRSABits is NIST's floor for signatures (SP 800-131A).
const minRSABits = 2048

// developmentPrefix marks the ids of keys whose private half is on the machines of developers.
const developmentPrefix = "dev-"

// verifyKey is a public key and the algorithms that it may verify.
type verifyKey struct {
	public     any
	algorithms []jose.SignatureAlgorithm
}

// keySet is an immutable set of keys by their id. A change makes a new set with a new generation.
type keySet struct {
	byID       map[string]verifyKey
	generation uint64
}

// errNoKeys is returned for a key set without a usable key.
var errNoKeys = errors.New("contains no usable key")

// parseKeys reads a JSON Web Key Set (RFC 7517). Keys that cannot be used are left out and named in skipped. The RFC
// asks for this, because issuers also publish keys for other purposes.
func parseKeys(raw []byte) (keys map[string]verifyKey, skipped []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, nil, fmt.Errorf("is not a JSON Web Key Set: %w", err)
	}
	keys = make(map[string]verifyKey, len(set.Keys))
	for i, rawKey := range set.Keys {
		id, key, err := parseKey(rawKey)
		if _, twice := keys[id]; err == nil && twice {
			err = errors.New("another key has the same kid")
		}
		if err != nil {
			skipped = append(skipped, fmt.Errorf("key %d (kid %q): %w", i, id, err))
			continue
		}
		keys[id] = key
	}
	if len(keys) == 0 {
		return nil, skipped, errNoKeys
	}
	return keys, skipped, nil
}

func parseKey(raw []byte) (id string, key verifyKey, err error) {
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(raw); err != nil {
		return "", verifyKey{}, err
	}
	switch {
	case k.KeyID == "":
		return "", verifyKey{}, errors.New("has no kid")
	case k.Use != "" && k.Use != "sig":
		return k.KeyID, verifyKey{}, errors.New("is not for signatures")
	case !k.IsPublic():
		// Every reader of the set could sign with it.
		return k.KeyID, verifyKey{}, errors.New("is not a public key; publish the public half only and replace this key")
	}
	key = verifyKey{public: k.Key, algorithms: algorithmsOf(k.Key)}
	if k.Algorithm != "" {
		key.algorithms = slices.DeleteFunc(key.algorithms, func(a jose.SignatureAlgorithm) bool {
			return string(a) != k.Algorithm
		})
	}
	if len(key.algorithms) == 0 {
		return k.KeyID, verifyKey{}, errors.New("is of a type or size that is not accepted")
	}
	return k.KeyID, key, nil
}

func algorithmsOf(public any) []jose.SignatureAlgorithm {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return []jose.SignatureAlgorithm{jose.ES256}
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSABits {
			return []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
		}
	}
	return nil
}

// developmentKeys returns the ids of the development keys in keys, sorted.
func developmentKeys(keys map[string]verifyKey) []string {
	var ids []string
	for id := range keys {
		if strings.HasPrefix(id, developmentPrefix) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
