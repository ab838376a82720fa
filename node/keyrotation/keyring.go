// Package keyrotation changes the keys that encrypt gossip, step by step. It edits the keyring file and waits until
// every node reports the change. It refuses a step that would split the cluster. It sends no key: keys spread with the
// file, be it one file for all nodes or one file in each region.
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

// Rotation runs the steps. It may ask any node.
type Rotation struct {
	// Ask returns a node's view of every node's keys.
	Ask func(context.Context) (adminapi.Keyrings, error)
	// Timeout limits the wait of one step.
	Timeout time.Duration
	// Progress shows a person what a step waits for.
	Progress io.Writer
}

// keySize is the key size of AES-256, the largest in memberlist.
const keySize = 32

// pollEvery is short: nodes read their files once a second.
const pollEvery = 500 * time.Millisecond

// NewKey returns a random key.
func NewKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return key
}

// Add appends a new key to the file and waits until every node has it. It returns the key's fingerprint after the key
// is in the file, also with an error.
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

// Use makes the file's key with that fingerprint the sending key, and waits until every node sends with it. It refuses
// while a node does not have the key: that node could not read gossip any more.
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

// Remove takes the key with that fingerprint out of the file and waits until no node has it. It refuses while a node
// sends with this key or with a key that is not in the file: other nodes could not read that node's gossip.
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
		return fmt.Errorf("keyring: %s is the sending key; make another key the sending key first", fingerprint)
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

// all returns an error unless is holds for every node.
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

var errTimeout = errors.New("some nodes have not followed in time; the file is correct, and nodes follow when they read it: repair these nodes, then wait again")

// await asks until is holds for every node. If the first request fails, it gives up. It repeats later requests that
// fail.
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

// not returns the nodes for which is does not hold.
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
