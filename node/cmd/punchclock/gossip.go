package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/punchclock/punchclock/node/keyrotation"
	"github.com/punchclock/punchclock/region/gossip"
)

// gossipCommand is `punchclock gossip`.
type gossipCommand struct {
	Keys gossipKeysCommand `cmd:"" help:"Show and rotate the keys that encrypt gossip."`
}

type gossipKeysCommand struct {
	Show     showKeysCommand    `cmd:"" help:"Show the keys of every node and the key with which it sends."`
	Generate generateKeyCommand `cmd:"" help:"Print a new key, for a secret store or a first keyring file. Its fingerprint goes to standard error."`
	List     listKeysCommand    `cmd:"" help:"Print the fingerprints of the keys in a file, the sending key first."`
	Add      addKeyCommand      `cmd:"" help:"Append a new key to the keyring file of the nodes, and wait until every node has it."`
	Use      useKeyCommand      `cmd:"" help:"Make a key the sending key, and wait until every node sends with it. The command refuses a key that some node lacks."`
	Remove   removeKeyCommand   `cmd:"" help:"Remove a key from the file, and wait until no node has it. The command refuses a key with which some node sends."`
	Wait     waitKeyCommand     `cmd:"" help:"Wait for a step whose keyring files another tool writes, such as the secret store of each region."`
}

type showKeysCommand struct {
	operator
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (c *showKeysCommand) Run(ctx context.Context, out io.Writer) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	rings, err := client.Keyrings(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(rings)
	}
	return rings.WriteTable(out)
}

type generateKeyCommand struct{}

// Run implements the command.
func (generateKeyCommand) Run(out io.Writer) error {
	key := keyrotation.NewKey()
	fmt.Fprintln(os.Stderr, gossip.FingerprintOf(key))
	_, err := out.Write(keyrotation.Format([][]byte{key}))
	return err
}

type listKeysCommand struct {
	File string `arg:"" help:"Keyring file." type:"path"`
}

// Run implements the command.
func (c *listKeysCommand) Run(out io.Writer) error {
	keys, err := gossip.ReadKeys(c.File)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, strings.Join(keyrotation.Fingerprints(keys), "\n"))
	return err
}

// rotation holds the flags of every step of a rotation.
type rotation struct {
	operator
	// Nodes read the file once a second and tell each other within seconds, or within 15 s after a lost message.
	Timeout time.Duration `help:"Time to wait for the nodes." default:"2m"`
}

func (r *rotation) steps() (keyrotation.Rotation, error) {
	client, err := r.client()
	return keyrotation.Rotation{Ask: client.Keyrings, Timeout: r.Timeout, Progress: os.Stderr}, err
}

type addKeyCommand struct {
	rotation
	File string `arg:"" help:"Keyring file that the nodes read." type:"path"`
}

// Run implements the command.
func (c *addKeyCommand) Run(ctx context.Context, out io.Writer) error {
	steps, err := c.steps()
	if err != nil {
		return err
	}
	fingerprint, err := steps.Add(ctx, c.File)
	if fingerprint != "" {
		fmt.Fprintln(out, fingerprint)
	}
	return err
}

// keyOfFile holds the flags of use and remove.
type keyOfFile struct {
	rotation
	File        string `arg:"" help:"Keyring file that the nodes read." type:"path"`
	Fingerprint string `arg:"" help:"Fingerprint of the key."`
}

func (k *keyOfFile) run(ctx context.Context, step func(keyrotation.Rotation, context.Context, string, string) error) error {
	steps, err := k.steps()
	if err != nil {
		return err
	}
	return step(steps, ctx, k.File, k.Fingerprint)
}

type useKeyCommand struct{ keyOfFile }

// Run implements the command.
func (c *useKeyCommand) Run(ctx context.Context) error { return c.run(ctx, keyrotation.Rotation.Use) }

type removeKeyCommand struct{ keyOfFile }

// Run implements the command.
func (c *removeKeyCommand) Run(ctx context.Context) error {
	return c.run(ctx, keyrotation.Rotation.Remove)
}

type waitKeyCommand struct {
	rotation
	Step        string `arg:"" enum:"added,used,removed" help:"added: every node has the key; used: every node sends with it; removed: no node has it."`
	Fingerprint string `arg:"" help:"Fingerprint of the key."`
}

// Run implements the command.
func (c *waitKeyCommand) Run(ctx context.Context) error {
	steps, err := c.steps()
	if err != nil {
		return err
	}
	if err := gossip.CheckFingerprint(c.Fingerprint); err != nil { // a mistyped fingerprint would pass as a removed key
		return err
	}
	switch c.Step {
	case "added":
		return steps.AwaitAdded(ctx, c.Fingerprint)
	case "used":
		return steps.AwaitUsed(ctx, c.Fingerprint)
	default:
		return steps.AwaitRemoved(ctx, c.Fingerprint)
	}
}
