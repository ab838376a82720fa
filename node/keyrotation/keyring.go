// Package keyrotation changes the keys that encrypt gossip, step by step: it edits
// the keyring file and waits until every node says that it has followed. A step
// that would part the nodes is refused. It sends no key anywhere: the file is
// how keys spread, be it one file for all nodes or one in each region.
package keyrotation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/region/gossip"
)

// Rotation takes the steps. Any node that answers will do to ask.
type Rotation struct {
	// Ask returns what a node knows of every node's keys.
	Ask func(context.Context) (adminapi.Keyrings, error)
	// Timeout bounds the wait of one step.
	Timeout time.Duration
	// Progress is told what is waited for, for a person.
	Progress io.Writer
}

// keySize is AES-256's, memberlist's largest.
const keySize = 32

// pollEvery is as often as a node may have read its file anew.
const pollEvery = 500 * time.Millisecond

// NewKey returns a key that nobody can guess.
func NewKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return key
}

// Add appends a new key to the file and waits until every node has it. It
// returns the key's fingerprint as soon as the key is in the file, also together
// with an error.
func (r Rotation) Add(ctx context.Context, path string) (fingerprint string, err error) {
	f, err := open(path)
	if err != nil {
		return "", err
	}
	sends := gossip.FingerprintOf(f.keys[0]).String()
	if err := r.all(ctx, "have the first key of "+path+", so this is not the file they read", func(k adminapi.Keyring) bool { return k.Has(sends) }); err != nil {
		return "", err
	}
	key := NewKey()
	if err := f.write(append(slices.Clone(f.keys), key)); err != nil {
		return "", err
	}
	fingerprint = gossip.FingerprintOf(key).String()
	return fingerprint, r.AwaitAdded(ctx, fingerprint)
}

// Use makes the file's key of that fingerprint the one that sends, and waits
// until every node sends with it. It refuses while a node does not have it: that
// node would hear nothing any more.
func (r Rotation) Use(ctx context.Context, path, fingerprint string) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	i, err := f.index(fingerprint)
	if err != nil {
		return err
	}
	if err := r.all(ctx, "have the key "+fingerprint, func(k adminapi.Keyring) bool { return k.Has(fingerprint) }); err != nil {
		return err
	}
	others := slices.Delete(slices.Clone(f.keys), i, i+1)
	if err := f.write(slices.Insert(others, 0, f.keys[i])); err != nil {
		return err
	}
	return r.AwaitUsed(ctx, fingerprint)
}

// Remove takes the key of that fingerprint out of the file and waits until no
// node has it. It refuses while a node sends with it, or with any key that is
// not in the file: the others would not hear that node.
func (r Rotation) Remove(ctx context.Context, path, fingerprint string) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	i, err := f.index(fingerprint)
	if err != nil {
		return err
	}
	if i == 0 {
		return fmt.Errorf("keyring: %s is the key that sends; use another one first", fingerprint)
	}
	left := slices.Delete(slices.Clone(f.keys), i, i+1)
	known := Fingerprints(left)
	if err := r.all(ctx, fmt.Sprintf("send with a key that stays %v", known), func(k adminapi.Keyring) bool {
		return k.Known && len(k.Keys) > 0 && slices.Contains(known, k.Keys[0])
	}); err != nil {
		return err
	}
	if err := f.write(left); err != nil {
		return err
	}
	return r.AwaitRemoved(ctx, fingerprint)
}

// AwaitAdded waits until every node has the key.
func (r Rotation) AwaitAdded(ctx context.Context, fingerprint string) error {
	return r.await(ctx, "have "+fingerprint, func(k adminapi.Keyring) bool { return k.Has(fingerprint) })
}

// AwaitUsed waits until every node sends with the key.
func (r Rotation) AwaitUsed(ctx context.Context, fingerprint string) error {
	return r.await(ctx, "send with "+fingerprint, func(k adminapi.Keyring) bool { return k.Sends(fingerprint) })
}

// AwaitRemoved waits until no node has the key.
func (r Rotation) AwaitRemoved(ctx context.Context, fingerprint string) error {
	return r.await(ctx, "are without "+fingerprint, func(k adminapi.Keyring) bool { return k.Known && !k.Has(fingerprint) })
}

// all refuses unless every node is as it must be.
func (r Rotation) all(ctx context.Context, what string, is func(adminapi.Keyring) bool) error {
	rings, err := r.Ask(ctx)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if others := not(rings, is); len(others) > 0 || len(rings.Nodes) == 0 {
		return fmt.Errorf("keyring: nothing was changed: not all nodes %s: %s", what, strings.Join(others, ", "))
	}
	return nil
}

var errTimeout = errors.New("waited in vain; the file is as it shall be, and nodes that read it later follow: see which do not, and wait again")

// await asks until every node is as it must be. A node that cannot be asked for
// a moment is asked again, but for the first time.
func (r Rotation) await(ctx context.Context, what string, is func(adminapi.Keyring) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, errTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	said := ""
	for {
		rings, err := r.Ask(ctx)
		switch {
		case err != nil && said == "":
			return fmt.Errorf("keyring: %w", err)
		case err == nil:
			others := not(rings, is)
			all := len(rings.Nodes)
			line := fmt.Sprintf("%d of %d nodes %s", all-len(others), all, what)
			if len(others) > 0 {
				line += "; not yet " + strings.Join(others, ", ")
			}
			if line != said {
				fmt.Fprintln(r.Progress, line)
				said = line
			}
			if len(others) == 0 && all > 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("keyring: %w: %s", context.Cause(ctx), said)
		}
	}
}

// not names the nodes that are not as they must be.
func not(rings adminapi.Keyrings, is func(adminapi.Keyring) bool) (names []string) {
	for _, k := range rings.Nodes {
		switch {
		case is(k):
		case k.Known:
			names = append(names, k.Node)
		default:
			names = append(names, k.Node+" (says nothing of its keys)")
		}
	}
	return names
}
