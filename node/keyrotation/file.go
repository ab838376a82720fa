package keyrotation

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/punchclock/punchclock/region/gossip"
)

// file is the content of a keyring file.
type file struct {
	path string // the target of a link: a rename must not replace the link
	info os.FileInfo
	keys [][]byte
}

func open(path string) (*file, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w; the file must exist: adding a key cannot turn encryption on", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	keys, err := gossip.ReadKeys(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return &file{path: path, info: info, keys: keys}, nil
}

// index returns the position of the key with that fingerprint.
func (f *file) index(fingerprint string) (int, error) {
	i := slices.IndexFunc(f.keys, func(k []byte) bool { return gossip.FingerprintOf(k).String() == fingerprint })
	if i < 0 {
		return 0, fmt.Errorf("keyring: %s holds no key %s, it holds %v", f.path, fingerprint, Fingerprints(f.keys))
	}
	return i, nil
}

// write replaces the file, so that a node reads either the old keys or the new keys. It keeps the owner and the
// permissions of owner and group. Others get no permission.
func (f *file) write(keys [][]byte) error {
	content := Format(keys)
	if _, err := gossip.ParseKeys(content); err != nil { // otherwise every node would refuse the file
		return fmt.Errorf("keyring: %s: %w", f.path, err)
	}
	if now, err := gossip.ReadKeys(f.path); err != nil || !slices.EqualFunc(now, f.keys, bytes.Equal) {
		return fmt.Errorf("keyring: %s has changed meanwhile; check it and begin this step again", f.path)
	}
	temp, err := os.CreateTemp(filepath.Dir(f.path), ".keyring-*") // readable for this account alone
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	_, err = temp.Write(content)
	err = errors.Join(err, keepOwner(temp, f.info), temp.Chmod(f.info.Mode().Perm()&0o660|0o600), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), f.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keyring: %w", err), os.Remove(temp.Name()))
	}
	return nil
}

// Format returns keys in the format of a keyring file.
func Format(keys [][]byte) []byte {
	var content []byte
	for _, k := range keys {
		content = append(base64.StdEncoding.AppendEncode(content, k), '\n')
	}
	return content
}

// Fingerprints returns the fingerprints of keys, in their order.
func Fingerprints(keys [][]byte) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = gossip.FingerprintOf(k).String()
	}
	return list
}
