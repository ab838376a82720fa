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
	// maxKeys is the most keys of a keyring. A rotation needs two, and an interrupted rotation three. A packet that no
	// key opens costs one try for each of them.
	maxKeys = 8
	// maxKeyFile is far more than maxKeys lines need. A larger file is not a keyring.
	maxKeyFile = 4 << 10
)

// Fingerprint names a key and does not reveal it. It is the beginning of a hash of the key, which cannot be guessed.
type Fingerprint [fingerprintSize]byte

// fingerprintSize is short enough for a person to compare. Keys are few, so collisions do not matter.
const fingerprintSize = 8

// FingerprintOf returns the key's fingerprint.
func FingerprintOf(key []byte) Fingerprint {
	sum := sha256.Sum256(append([]byte("punchclock gossip key\x00"), key...))
	return Fingerprint(sum[:fingerprintSize])
}

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// CheckFingerprint returns an error if the text cannot be a fingerprint.
func CheckFingerprint(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != fingerprintSize || s != strings.ToLower(s) {
		return fmt.Errorf("a fingerprint must be %d of 0-9 and a-f, is %q", 2*fingerprintSize, s)
	}
	return nil
}

// ParseKeys reads the content of a keyring file: one key in a line, 16, 24 or 32 bytes in base64, 1 to 8 different
// keys. The first key sends.
func ParseKeys(content []byte) ([][]byte, error) {
	var keys [][]byte
	for i, line := range bytes.Fields(content) {
		key, err := base64.StdEncoding.AppendDecode(nil, line)
		if err != nil || memberlist.ValidateKey(key) != nil {
			return nil, fmt.Errorf("key %d must be base64 of 16, 24 or 32 bytes", i+1)
		}
		if !hasKey(keys, key) {
			keys = append(keys, key)
		}
	}
	switch {
	case len(keys) == 0:
		return nil, errors.New("the file has no key")
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("the file has %d keys, at most %d are allowed", len(keys), maxKeys)
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
		return nil, fmt.Errorf("%s: a keyring file has at most %d bytes", path, maxKeyFile)
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

// install makes keys the keys of the ring; the first one sends. It adds new keys first, then changes the sending key,
// then removes old keys. So the node can read messages of its kept keys at every moment.
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

// removeOthers removes every key from the ring that is not in keep. keep[0] is the sending key.
//
// memberlist 0.7 removes a key by shifting the slice in place while other goroutines decrypt packets with it. Removing
// the last key shifts nothing. So this function pops keys from the end and then adds the kept ones again. A packet that
// arrives in these microseconds may be dropped.
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
