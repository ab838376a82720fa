package gossip

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"
)

// key returns the key with a number.
func key(i byte) []byte { return bytes.Repeat([]byte{i}, 32) }

func TestReadKeys(t *testing.T) {
	line := func(k []byte) string { return base64.StdEncoding.EncodeToString(k) + "\n" }
	path := filepath.Join(t.TempDir(), "keys")
	for content, want := range map[string][][]byte{
		line(key(1)): {key(1)},
		line(key(2)[:16]) + "\n  " + line(key(1)):  {key(2)[:16], key(1)},
		line(key(1)) + line(key(2)) + line(key(1)): {key(1), key(2)},
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadKeys(path); err != nil || !sameKeys(got, want) {
			t.Errorf("%q is read as %x, %v; want %x", content, got, err, want)
		}
	}
	for content, want := range map[string]string{
		"":                               "has no key",
		"\n \n":                          "has no key",
		"!":                              "key 1 must be base64",
		line(key(1)) + "c2hvcnQ=":        "key 2 must be base64",
		line(key(1)) + line(key(1))[:40]: "key 2",
		strings.Repeat("\n", 5000):       "at most 4096 bytes",
		func() (all string) {
			for i := range byte(9) {
				all += line(key(i))
			}
			return all
		}(): "9 keys",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadKeys(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q is read as %x, %v; want an error about %q that names the file", content, got, err, want)
		}
	}
	if _, err := ReadKeys(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gives %v, want os.ErrNotExist", err)
	}
}

// TestInstallReplacesTheKeys installs any keys over any other keys. The ring must have exactly the new keys, and no
// slice may change that another goroutine still decrypts with.
func TestInstallReplacesTheKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfNDistinct(rapid.ByteRange(1, 6), 1, 6, rapid.ID)
		of := func(label string) (keys [][]byte) {
			for _, i := range some.Draw(t, label) {
				keys = append(keys, key(i))
			}
			return keys
		}
		before := of("before")
		ring, err := memberlist.NewKeyring(before, before[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			inUse := ring.GetKeys()
			copied := append([][]byte(nil), inUse...)
			want := of("after")
			if err := install(ring, want); err != nil {
				t.Fatalf("install %x: %v", want, err)
			}
			got := ring.GetKeys()
			if len(got) != len(want) || !bytes.Equal(got[0], want[0]) || !sameRing(fingerprints(got), fingerprints(want)) {
				t.Fatalf("the ring holds %x, want %x", got, want)
			}
			if !sameKeys(inUse, copied) {
				t.Fatalf("the slice in use became %x, it was %x", inUse, copied)
			}
		}
	})
}

func TestBadKeyChangesNothing(t *testing.T) {
	ring, err := memberlist.NewKeyring([][]byte{key(1), key(2)}, key(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := install(ring, [][]byte{key(3), key(1)[:15]}); err == nil {
		t.Error("a key of 15 bytes is accepted")
	}
	if got := ring.GetKeys(); !sameKeys(got, [][]byte{key(1), key(2)}) {
		t.Errorf("the ring became %x", got)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte("MDEyMzQ1Njc4OWFiY2RlZg==\nMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"))
	f.Add([]byte("=\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		keys, err := ParseKeys(content)
		if err != nil {
			return
		}
		if ring, err := memberlist.NewKeyring(keys, keys[0]); err != nil || len(ring.GetKeys()) != len(keys) {
			t.Errorf("memberlist makes %[2]v, %[3]v of the keys %[1]x", keys, ring, err)
		}
	})
}
