package gossip

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/punchclock/punchclock/region"
)

// keyFile is a keyring file that several nodes read.
type keyFile struct {
	t    testing.TB
	path string
}

func mustKeyFile(t testing.TB, keys ...[]byte) keyFile {
	f := keyFile{t: t, path: filepath.Join(t.TempDir(), "keys")}
	f.write(keys...)
	return f
}

// write replaces the file by a rename, as `mv` does.
func (f keyFile) write(keys ...[]byte) {
	f.t.Helper()
	var content []byte
	for _, k := range keys {
		content = append(base64.StdEncoding.AppendEncode(content, k), '\n')
	}
	if err := os.WriteFile(f.path+".new", content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		f.t.Fatal(err)
	}
}

func (f keyFile) keys() [][]byte {
	f.t.Helper()
	keys, err := ReadKeys(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	return keys
}

func withKeyFile(f keyFile) option {
	return func(c *Config, d *Deps, _ *timings) {
		c.Keys = f.keys()
		d.Keys = func() ([][]byte, error) { return ReadKeys(f.path) }
	}
}

// allReport waits until every node knows that all nodes have these keys, and send with the first one.
func allReport(t testing.TB, nodes []*testNode, keys ...[]byte) {
	t.Helper()
	want := fingerprints(keys)
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s knows that %d nodes have %v", n.cfg.Self.Node, len(nodes), want), func() bool {
			rings := n.Keyrings()
			return len(rings) == len(nodes) && !slices.ContainsFunc(rings, func(k Keyring) bool {
				return !k.Known || !sameRing(k.Keys, want)
			})
		})
	}
}

// knows reports whether the node knows that the nodes of a region have these keys.
func knows(n *testNode, r region.Name, keys [][]byte) bool {
	return !slices.ContainsFunc(n.Keyrings(), func(k Keyring) bool {
		return k.Region == r && (!k.Known || !sameRing(k.Keys, fingerprints(keys)))
	})
}

// departures counts the log lines about a node that left or died.
type departures struct {
	slog.Handler
	n *atomic.Int64
}

func (d departures) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "node left") {
		d.n.Add(1)
	}
	return nil
}

func (d departures) Enabled(context.Context, slog.Level) bool { return true }

// TestKeysAreRotatedWhileNodesGossip runs a whole rotation while the nodes send many messages. No node and no message
// may be lost, and after the rotation the old key must open nothing.
func TestKeysAreRotatedWhileNodesGossip(t *testing.T) {
	oldKey, newKey := key(1), key(2)
	// One file for each region, written one after the other.
	var files []keyFile
	for range regions {
		files = append(files, mustKeyFile(t, oldKey))
	}
	var gone atomic.Int64
	quiet := func(_ *Config, d *Deps, _ *timings) { d.Log = slog.New(departures{slog.DiscardHandler, &gone}) }
	// With the product's own failure detection: a busy machine may delay a node, which is no fault of the rotation.
	p := fast()
	tune := p.tune
	p.tune = withProbesOf(tune)
	var nodes []*testNode
	for i := range 5 {
		opts := []option{withTimings(p), withKeyFile(files[i%3]), quiet}
		if i > 0 {
			opts = append(opts, withSeeds(nodes[0].Addr()))
		}
		nodes = append(nodes, mustStart(t, regions[i%3], fmt.Sprint("n", i), opts...))
	}
	converge(t, nodes...)
	allReport(t, nodes, oldKey)

	stop := talk(nodes)
	for _, keys := range [][][]byte{{oldKey, newKey}, {newKey, oldKey}, {newKey}} {
		for i, f := range files {
			f.write(keys...)
			eventually(t, fmt.Sprintf("all know that %s has %d keys", regions[i], len(keys)), func() bool {
				return !slices.ContainsFunc(nodes, func(n *testNode) bool { return !knows(n, regions[i], keys) })
			})
		}
		allReport(t, nodes, keys...)
	}
	sent := stop()
	for from, version := range sent {
		for i, n := range nodes {
			if i == from {
				continue
			}
			eventually(t, fmt.Sprintf("version %[2]d of node %[3]d arrives at node %[1]d", i, version, from), func() bool {
				return n.has(fmt.Sprint("region", from), version)
			})
		}
	}
	if n := gone.Load(); n != 0 {
		t.Errorf("%d times a node seemed dead during the rotation, want never", n)
	}
	converge(t, nodes...)

	reader, meter := mustMeter(t)
	p.firstJoin = 100 * time.Millisecond
	late := mustStart(t, "us-east", "late", withTimings(p), withSeeds(nodes[0].Addr()), withMeter(meter), withConfig(func(c *Config) { c.Keys = [][]byte{oldKey} }))
	eventually(t, "the node with the old key has tried a few times", func() bool {
		return counts(t, reader, "punchclock.gossip.joins", "outcome")["failed"] >= 3
	})
	if got := counts(t, reader, "punchclock.gossip.joins", "outcome")["ok"]; got != 0 {
		t.Errorf("%d joins with the old key succeeded, want none", got)
	}
	converge(t, late)
	converge(t, nodes...)
}

// talk makes every node send loads and switches. The returned function ends that, and returns each node's last version.
func talk(nodes []*testNode) (stop func() []int64) {
	ctx, cancel := context.WithCancel(context.Background())
	sent := make([]int64, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				sent[i]++
				n.send(fmt.Sprint("region", i), sent[i])
				n.load.Store(&region.Load{InFlight: uint32(sent[i]), Capacity: 1000})
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return func() []int64 {
		cancel()
		wg.Wait()
		return sent
	}
}

func TestBadKeyringFileChangesNothing(t *testing.T) {
	reader, meter := mustMeter(t)
	file := mustKeyFile(t, key(1))
	a := mustStart(t, "us-east", "a", withKeyFile(file), withMeter(meter))
	b := mustStart(t, "eu-west", "b", withSeeds(a.Addr()), withConfig(func(c *Config) { c.Keys = [][]byte{key(1)} }))
	nodes := []*testNode{a, b}
	allReport(t, nodes, key(1))
	readings := func(outcome string) int64 {
		return counts(t, reader, "punchclock.gossip.keys.reloads", "outcome")[outcome]
	}
	for _, spoil := range []func() error{
		func() error { return os.Remove(file.path) },
		func() error { return os.WriteFile(file.path, nil, 0o600) },
		func() error { return os.WriteFile(file.path, []byte("no key\n"), 0o600) },
	} {
		failed := readings(keysFailed)
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the bad file is counted", func() bool { return readings(keysFailed) > failed+2 })
	}
	if got := readings(keysChanged); got != 0 {
		t.Errorf("the keyring changed %d times, want never", got)
	}
	allReport(t, nodes, key(1))

	file.write(key(1), key(2))
	eventually(t, "the good file is applied, and b knows the keys", func() bool {
		return slices.ContainsFunc(b.Keyrings(), func(k Keyring) bool {
			return k.Node == a.cfg.Self.Node && sameRing(k.Keys, fingerprints(file.keys()))
		})
	})
	if got := readings(keysChanged); got != 1 {
		t.Errorf("the keyring changed %d times, want once", got)
	}
	if got := counts(t, reader, "punchclock.gossip.keys.mismatch", "")[""]; got != 1 {
		t.Errorf("%d nodes differ, want one", got)
	}
}

// TestKeysMustBeReadTwice returns keys that change between two readings, like a file that is half written.
func TestKeysMustBeReadTwice(t *testing.T) {
	readings := make(chan [][]byte)
	n := mustStart(t, "us-east", "a", func(c *Config, d *Deps, _ *timings) {
		c.Keys = [][]byte{key(1)}
		d.Keys = func() ([][]byte, error) {
			keys, ok := <-readings
			if !ok {
				return nil, errors.New("nothing to read")
			}
			return keys, nil
		}
	})
	t.Cleanup(func() { close(readings) }) // before Close, which waits for the reading
	has := func() []Fingerprint { return n.Keyrings()[0].Keys }
	both := [][]byte{key(1), key(2)}
	for _, keys := range [][][]byte{both, {key(1)}, both, {key(3)}, both} {
		readings <- keys
	}
	readings <- [][]byte{key(1)} // the loop has handled the reading before
	if got := has(); !sameRing(got, fingerprints([][]byte{key(1)})) {
		t.Errorf("it has %v, want the first keys", got)
	}
	readings <- both
	readings <- both
	eventually(t, "keys that were read twice are applied", func() bool { return sameRing(has(), fingerprints(both)) })
}

func TestEncryptionIsNotTurnedOnLater(t *testing.T) {
	deps := goodDeps()
	deps.Keys = func() ([][]byte, error) { return [][]byte{key(1)}, nil }
	if _, err := New(goodConfig("us-east", "a"), deps); !errors.Is(err, errNoKeys) {
		t.Errorf("New without keys and with new ones says %v, want errNoKeys", err)
	}
}

// TestNodeWithoutReportIsUnknown covers an older release, which does not report its keys. It must not look like a node
// without encryption.
func TestNodeWithoutReportIsUnknown(t *testing.T) {
	n := mustStart(t, "us-east", "a")
	mustForeigner(t, "older", foreigner{meta: encodeMeta(region.Member{Region: "eu-west"})}, n.Addr())
	plain := mustStart(t, "ap-south", "b", withSeeds(n.Addr()))
	eventually(t, "all three are seen, and b reports that it has no key", func() bool {
		rings := n.Keyrings()
		return len(rings) == 3 && rings[1].Node == plain.cfg.Self.Node && rings[1].Known
	})
	rings := n.Keyrings()
	if r := rings[0]; r.Node != n.cfg.Self.Node || !r.Known || len(r.Keys) != 0 {
		t.Errorf("the node's own keyring is %+v, want no keys", r)
	}
	if r := rings[1]; len(r.Keys) != 0 {
		t.Errorf("the keyring of b is %+v, want no keys", r)
	}
	if r := rings[2]; r.Node != "older" || r.Known || r.Region != "eu-west" {
		t.Errorf("the keyring of the older node is %+v, want that it is unknown", r)
	}
}
