package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

const (
	// maxKeys is how many keys a keyring holds: a rotation needs two, an
	// interrupted one three. All are tried on a packet that none can read.
	maxKeys = 8
	// maxKeyFile is far beyond maxKeys lines; a file that is larger is another.
	maxKeyFile = 4 << 10
)

// Fingerprint names a key and does not tell it: the beginning of a hash of a
// key that nobody can guess.
type Fingerprint [fingerprintSize]byte

// fingerprintSize is short enough for a person, and keys are few.
const fingerprintSize = 8

// FingerprintOf returns the key's fingerprint.
func FingerprintOf(key []byte) Fingerprint {
	sum := sha256.Sum256(append([]byte("punchclock gossip key\x00"), key...))
	return Fingerprint(sum[:fingerprintSize])
}

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// CheckFingerprint returns an error for a text that can be no fingerprint.
func CheckFingerprint(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != fingerprintSize || s != strings.ToLower(s) {
		return fmt.Errorf("a fingerprint has %d of 0-9 and a-f, %q does not", 2*fingerprintSize, s)
	}
	return nil
}

// ParseKeys reads the content of a keyring file: keys of 16, 24 or 32 bytes in
// base64, one a line, 1 to 8 different ones. The first one sends.
func ParseKeys(content []byte) ([][]byte, error) {
	var keys [][]byte
	for i, line := range bytes.Fields(content) {
		key, err := base64.StdEncoding.AppendDecode(nil, line)
		if err != nil || memberlist.ValidateKey(key) != nil {
			return nil, fmt.Errorf("key %d must be base64 of 16, 24 or 32 bytes", i+1)
		}
		if !hasKey(keys, key) { // twice is not more than once
			keys = append(keys, key)
		}
	}
	switch {
	case len(keys) == 0:
		return nil, errors.New("the file holds no key")
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("the file holds %d keys, at most %d are taken", len(keys), maxKeys)
	}
	return keys, nil
}

// ReadKeys reads a keyring file.
func ReadKeys(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxKeyFile {
		return nil, fmt.Errorf("%s: more than %d bytes are no keyring", path, maxKeyFile)
	}
	keys, err := ParseKeys(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func hasKey(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}

func sameKeys(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

func fingerprints(keys [][]byte) []Fingerprint {
	list := make([]Fingerprint, len(keys))
	for i, k := range keys {
		list[i] = FingerprintOf(k)
	}
	return list
}

// install makes keys those of the ring, the first one sending. New ones come
// before and old ones go after the sending one changes, so that there is no
// moment in which this node cannot read what it could read before and after.
func install(ring *memberlist.Keyring, keys [][]byte) error {
	for _, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return err
		}
	}
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil {
			return err
		}
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	return removeOthers(ring, keys)
}

// removeOthers takes every key out of the ring that is not to be kept, of which
// the first one sends. memberlist 0.7 removes a key by moving those behind it
// up, in the very slice by which packets are being decrypted. Behind the last
// one there is none. So what has to go is taken off the end together with what
// stands behind it, and that is added again: a packet that comes in these
// microseconds is one that was lost.
func removeOthers(ring *memberlist.Keyring, keep [][]byte) error {
	held := slices.Clone(ring.GetKeys())
	first := slices.IndexFunc(held, func(k []byte) bool { return !hasKey(keep, k) })
	if first < 0 {
		return nil
	}
	for _, k := range slices.Backward(held[first:]) {
		if err := ring.RemoveKey(k); err != nil {
			return err
		}
	}
	for _, k := range held[first:] {
		if hasKey(keep, k) {
			if err := ring.AddKey(k); err != nil {
				return err
			}
		}
	}
	return nil
}
