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

// file is a keyring file with the content that was read.
type file struct {
	path string // without links: a rename must replace the file and not a link to it
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

// index returns the index of the key with the fingerprint.
func (f *file) index(fingerprint string) (int, error) {
	i := slices.IndexFunc(f.keys, func(k []byte) bool { return gossip.FingerprintOf(k).String() == fingerprint })
	if i < 0 {
		return 0, fmt.Errorf("keyring: %s has no key %s, its keys are %v", f.path, fingerprint, Fingerprints(f.keys))
	}
	return i, nil
}

// write replaces the file. A node that reads it meanwhile sees the old keys or the new keys. The file keeps its owner
// and the permissions of owner and group. Other accounts get no permission.
func (f *file) write(keys [][]byte) error {
	content := Format(keys)
	if _, err := gossip.ParseKeys(content); err != nil { // every node would refuse the file
		return fmt.Errorf("keyring: %s: %w", f.path, err)
	}
	if now, err := gossip.ReadKeys(f.path); err != nil || !slices.EqualFunc(now, f.keys, bytes.Equal) {
		return fmt.Errorf("keyring: another program has changed %s since this step read it; look at the file and start the step again", f.path)
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

// Format returns the content of a keyring file with these keys.
func Format(keys [][]byte) []byte {
	var content []byte
	for _, k := range keys {
		content = append(base64.StdEncoding.AppendEncode(content, k), '\n')
	}
	return content
}

// Fingerprints returns the fingerprints of the keys, in order.
func Fingerprints(keys [][]byte) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = gossip.FingerprintOf(k).String()
	}
	return list
}
