package keyrotation

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/region/gossip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a set of nodes. Each node reports the keys of the keyring file that it reads. A real operator listener
// answers.
type world struct {
	*testing.T
	files map[string]string // by node; "" for a node that does not report its keys
	// wait is the timeout of each step. It is short for steps that no node follows.
	wait     time.Duration
	progress bytes.Buffer
}

func newWorld(t *testing.T) *world {
	return &world{T: t, files: map[string]string{}, wait: time.Minute}
}

// file writes a keyring file that these nodes read.
func (p *world) file(keys [][]byte, nodes ...string) string {
	p.Helper()
	path := filepath.Join(p.TempDir(), "keys")
	if err := os.WriteFile(path, Format(keys), 0o600); err != nil {
		p.Fatal(err)
	}
	for _, n := range nodes {
		p.files[n] = path
	}
	return path
}

func (p *world) keyrings() adminapi.Keyrings {
	list := adminapi.Keyrings{Node: "a"}
	for node, path := range p.files {
		k := adminapi.Keyring{Node: node, Known: path != ""}
		if k.Known {
			keys, err := gossip.ReadKeys(path)
			if err != nil {
				p.Error(err)
			}
			k.Keys = Fingerprints(keys)
		}
		list.Nodes = append(list.Nodes, k)
	}
	slices.SortFunc(list.Nodes, func(a, b adminapi.Keyring) int { return strings.Compare(a.Node, b.Node) })
	return list
}

func (p *world) rotation() Rotation {
	handler, err := adminapi.New(adminapi.Config{Node: "n", Region: "us-east", Version: "dev"}, adminapi.Deps{
		Metrics: http.NotFoundHandler(), Keyrings: p.keyrings, Log: slog.New(slog.DiscardHandler),
		Operator: func(_ context.Context, token string) error {
			if token != "operator" {
				return errors.New("this token is not an operator's")
			}
			return nil
		},
	})
	if err != nil {
		p.Fatal(err)
	}
	server := httptest.NewServer(handler)
	p.Cleanup(func() { server.Close(); http.DefaultClient.CloseIdleConnections() })
	return Rotation{Ask: adminapi.Client{URL: server.URL, Token: "operator"}.Keyrings, Timeout: p.wait, Progress: &p.progress}
}

func (p *world) has(path string, want ...[]byte) {
	p.Helper()
	got, err := gossip.ReadKeys(path)
	if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
		p.Errorf("the file has %v, %v, want %v", Fingerprints(got), err, Fingerprints(want))
	}
}

func (p *world) refused(err error, want string) {
	p.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		p.Errorf("error %v, want one with %q", err, want)
	}
}

func name(key []byte) string { return gossip.FingerprintOf(key).String() }

func TestRotation(t *testing.T) {
	p := newWorld(t)
	old := NewKey()
	path := p.file([][]byte{old}, "a", "b", "c")
	r := p.rotation()

	added, err := r.Add(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := gossip.ReadKeys(path)
	if err != nil || len(keys) != 2 || !bytes.Equal(keys[0], old) || name(keys[1]) != added || len(keys[1]) != 32 {
		t.Fatalf("after adding %s the file has %v, %v", added, Fingerprints(keys), err)
	}
	p.refused(r.Remove(t.Context(), path, name(old)), "is the sending key")
	if err := r.Use(t.Context(), path, added); err != nil {
		t.Fatal(err)
	}
	p.has(path, keys[1], old)
	if err := r.Remove(t.Context(), path, name(old)); err != nil {
		t.Fatal(err)
	}
	p.has(path, keys[1])
	for _, want := range []string{"3 of 3 nodes have " + added, "3 of 3 nodes send with " + added, "3 of 3 nodes are without " + name(old)} {
		if !strings.Contains(p.progress.String(), want) {
			t.Errorf("progress is %q, want %q in it", p.progress.String(), want)
		}
	}
}

func TestStepsThatWouldSeparateTheNodesAreRefused(t *testing.T) {
	old, next := NewKey(), NewKey()
	t.Run("use a key that a node lacks", func(t *testing.T) {
		p := newWorld(t)
		path := p.file([][]byte{old, next}, "a", "b")
		p.file([][]byte{old}, "behind")
		p.refused(p.rotation().Use(t.Context(), path, name(next)), "behind")
		p.has(path, old, next)
	})
	t.Run("use with a node that does not report its keys", func(t *testing.T) {
		p := newWorld(t)
		path := p.file([][]byte{old, next}, "a", "b")
		p.files["older"] = ""
		p.refused(p.rotation().Use(t.Context(), path, name(next)), "older (its keys are unknown")
		p.has(path, old, next)
	})
	t.Run("remove a key with which a node sends", func(t *testing.T) {
		p := newWorld(t)
		path := p.file([][]byte{next, old}, "a", "b")
		p.file([][]byte{old, next}, "behind")
		p.refused(p.rotation().Remove(t.Context(), path, name(old)), "behind")
		p.has(path, next, old)
	})
	t.Run("a key that is not in the file", func(t *testing.T) {
		p := newWorld(t)
		path := p.file([][]byte{old}, "a")
		p.refused(p.rotation().Use(t.Context(), path, name(next)), name(old))
		p.refused(p.rotation().Remove(t.Context(), path, "0"), "has no key 0")
	})
	t.Run("add to another file", func(t *testing.T) {
		p := newWorld(t)
		p.file([][]byte{old}, "a", "b")
		other := p.file([][]byte{next})
		_, err := p.rotation().Add(t.Context(), other)
		p.refused(err, "not the file that they read")
		p.has(other, next)
	})
	t.Run("add to a missing file", func(t *testing.T) {
		p := newWorld(t)
		_, err := p.rotation().Add(t.Context(), filepath.Join(t.TempDir(), "none"))
		p.refused(err, "cannot turn encryption on")
	})
	t.Run("a file with a key too many", func(t *testing.T) {
		p := newWorld(t)
		keys := [][]byte{old}
		for range 7 {
			keys = append(keys, NewKey())
		}
		path := p.file(keys, "a")
		_, err := p.rotation().Add(t.Context(), path)
		p.refused(err, "9 keys")
		p.has(path, keys...)
	})
	t.Run("without an operator's token", func(t *testing.T) {
		p := newWorld(t)
		path := p.file([][]byte{old}, "a")
		r := p.rotation()
		r.Ask = func(context.Context) (adminapi.Keyrings, error) {
			return adminapi.Keyrings{}, errors.New("403 Forbidden")
		}
		_, err := r.Add(t.Context(), path)
		p.refused(err, "403")
		p.refused(r.AwaitUsed(t.Context(), name(old)), "403")
		p.has(path, old)
	})
}

// TestWaitEnds covers a node that does not follow in time. The error must name the node, and a second wait must succeed
// after the node has followed.
func TestWaitEnds(t *testing.T) {
	p := newWorld(t)
	p.wait = 2 * time.Second // the first answer must come within it
	old := NewKey()
	path := p.file([][]byte{old}, "a", "b")
	behind := p.file([][]byte{old}, "behind")
	r := p.rotation()
	added, err := r.Add(t.Context(), path)
	p.refused(err, "not yet behind")
	if !errors.Is(err, errTimeout) || added == "" {
		t.Errorf("Add says %q, %v; want the fingerprint and errTimeout", added, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Timeout = time.Minute
	done := make(chan error, 1)
	go func() { done <- r.AwaitAdded(t.Context(), added) }()
	if err := os.WriteFile(behind+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(behind+".new", behind); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFileKeepsItsLinkAndMode(t *testing.T) {
	p := newWorld(t)
	old := NewKey()
	path := p.file([][]byte{old}, "a")
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(path, link), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.rotation().Add(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("the file's mode is %v, %v, want 0640, the permissions of owner and group", info.Mode(), err)
	}
	if info, err = os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".keyring-*")); err != nil || len(left) != 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
	f, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, Format([][]byte{old}), 0o600); err != nil {
		t.Fatal(err)
	}
	p.refused(f.write([][]byte{NewKey()}), "another program has changed")
	p.has(path, old)
}
