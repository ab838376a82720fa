// Package keyrotation changes the keys that encrypt gossip, step by step. Each step edits the keyring file and waits
// until every node reports that it has followed. A step that would separate the nodes is refused.
//
// It sends no key anywhere. The file is how keys spread: one file for all nodes, or one in each region.
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

// Rotation runs the steps of a rotation. It asks one node, which knows the keys of all nodes.
type Rotation struct {
	// Ask returns the keyrings of all nodes, as one node knows them.
	Ask func(context.Context) (adminapi.Keyrings, error)
	// Timeout is the limit of the wait of one step.
	Timeout time.Duration
	// Progress receives lines about the wait, for a person.
	Progress io.Writer
}

// keySize is the key length of AES-256, the longest that memberlist accepts.
const keySize = 32

// pollInterval is the pause between two questions. Nodes read their file once a second.
const pollInterval = 500 * time.Millisecond

// NewKey returns a random key.
func NewKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	return key
}

// Add appends a new key to the file and waits until every node has it. Once the key is in the file, Add returns its
// fingerprint, even with an error.
func (r Rotation) Add(ctx context.Context, path string) (fingerprint string, err error) {
	f, err := open(path)
	if err != nil {
		return "", err
	}
	sends := gossip.FingerprintOf(f.keys[0]).String()
	if err := r.require(ctx, "have the first key of "+path+", so this is not the file that they read", func(k adminapi.Keyring) bool { return k.Has(sends) }); err != nil {
		return "", err
	}
	key := NewKey()
	if err := f.write(append(slices.Clone(f.keys), key)); err != nil {
		return "", err
	}
	fingerprint = gossip.FingerprintOf(key).String()
	return fingerprint, r.AwaitAdded(ctx, fingerprint)
}

// Use makes a key of the file the sending key, and waits until every node sends with it. It refuses if a node does not
// have the key, because that node could read no message any more.
func (r Rotation) Use(ctx context.Context, path, fingerprint string) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	i, err := f.index(fingerprint)
	if err != nil {
		return err
	}
	if err := r.require(ctx, "have the key "+fingerprint, func(k adminapi.Keyring) bool { return k.Has(fingerprint) }); err != nil {
		return err
	}
	others := slices.Delete(slices.Clone(f.keys), i, i+1)
	if err := f.write(slices.Insert(others, 0, f.keys[i])); err != nil {
		return err
	}
	return r.AwaitUsed(ctx, fingerprint)
}

// Remove removes a key from the file and waits until no node has it. It refuses if a node sends with that key or with a
// key that is not in the file. The other nodes could not read the messages of such a node.
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
	remaining := slices.Delete(slices.Clone(f.keys), i, i+1)
	known := Fingerprints(remaining)
	if err := r.require(ctx, fmt.Sprintf("send with one of the remaining keys %v", known), func(k adminapi.Keyring) bool {
		return k.Known && len(k.Keys) > 0 && slices.Contains(known, k.Keys[0])
	}); err != nil {
		return err
	}
	if err := f.write(remaining); err != nil {
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

// require returns an error unless ok is true for every node. what completes the sentence "not all nodes ...".
func (r Rotation) require(ctx context.Context, what string, ok func(adminapi.Keyring) bool) error {
	rings, err := r.Ask(ctx)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if others := failing(rings, ok); len(others) > 0 || len(rings.Nodes) == 0 {
		return fmt.Errorf("keyring: nothing was changed, because not all nodes %s: %s", what, strings.Join(others, ", "))
	}
	return nil
}

var errTimeout = errors.New("not all nodes have followed in time; the file is right, and nodes that read it later follow: see which nodes have not, and wait again")

// await asks until ok is true for every node. After the first answer it ignores errors, because the node may restart.
func (r Rotation) await(ctx context.Context, what string, ok func(adminapi.Keyring) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, errTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	printed := ""
	for {
		rings, err := r.Ask(ctx)
		switch {
		case err != nil && printed == "":
			return fmt.Errorf("keyring: %w", err)
		case err == nil:
			others := failing(rings, ok)
			all := len(rings.Nodes)
			line := fmt.Sprintf("%d of %d nodes %s", all-len(others), all, what)
			if len(others) > 0 {
				line += "; not yet " + strings.Join(others, ", ")
			}
			if line != printed {
				fmt.Fprintln(r.Progress, line)
				printed = line
			}
			if len(others) == 0 && all > 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("keyring: %w: %s", context.Cause(ctx), printed)
		}
	}
}

// failing returns the names of the nodes for which ok is false.
func failing(rings adminapi.Keyrings, ok func(adminapi.Keyring) bool) (names []string) {
	for _, k := range rings.Nodes {
		switch {
		case ok(k):
		case k.Known:
			names = append(names, k.Node)
		default:
			names = append(names, k.Node+" (its keys are unknown)")
		}
	}
	return names
}
