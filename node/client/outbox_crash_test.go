package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// The environment of a process that kills itself.
const (
	victimDir   = "OUTBOX_VICTIM_DIR"
	victimURL   = "OUTBOX_VICTIM_URL"
	victimSteps = "OUTBOX_VICTIM_STEPS" // it kills itself before that step on the disk
)

// mortal is a folder whose process kills itself before a step that changes the disk.
type mortal struct {
	folder
	steps atomic.Int64
}

func (m *mortal) step(half func()) {
	if m.steps.Add(-1) == 0 {
		half()
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill() // SIGKILL
		}
		select {} // until it takes effect
	}
}

func (m *mortal) write(name string, content []byte) error {
	m.step(func() { _ = m.folder.write(name, content[:len(content)/2]) })
	return m.folder.write(name, content)
}

func (m *mortal) append(name string, lines []byte) error {
	m.step(func() { _ = m.folder.append(name, lines[:len(lines)/2]) })
	return m.folder.append(name, lines)
}

func (m *mortal) rename(from, to string) error {
	m.step(func() {})
	return m.folder.rename(from, to)
}

func (m *mortal) remove(name string) error {
	m.step(func() {})
	return m.folder.remove(name)
}

func (m *mortal) sync(dir string) error {
	m.step(func() {})
	return m.folder.sync(dir)
}

// victim keeps some punches, prints their ids, and flushes, until it kills itself or ends. It returns its exit status.
func victim() int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	steps, err := strconv.Atoi(os.Getenv(victimSteps))
	if err == nil {
		err = runVictim(ctx, os.Getenv(victimDir), os.Getenv(victimURL), int64(steps))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runVictim(ctx context.Context, dir, url string, steps int64) error {
	cfg := OutboxConfig{Dir: dir, Batch: 2, Receipts: true}
	box, err := OpenOutbox(cfg)
	if err != nil {
		return err
	}
	m := &mortal{folder: folder(dir)}
	m.steps.Store(steps)
	box.disk = m
	c, err := New(Config{
		Endpoints: []string{url}, Token: StaticToken("secret"), Backoff: Backoff{Base: time.Millisecond, Max: time.Millisecond},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, kind := range []punch.Kind{punch.In, "lunch", punch.Out} {
		r := Request{ID: punch.NewID(), Employee: "e1", Kind: kind, Note: "ü"}
		if err := box.Put(ctx, r); err != nil {
			return err
		}
		fmt.Println(r.ID, r.Kind) // one write: the test reads the whole line or none
	}
	if _, err := box.Flush(ctx, c); err != nil && !errors.Is(err, ErrFlushing) {
		return err
	}
	all, err := box.Quarantined(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	if err := box.Release(ctx, all[0].ID); !errors.Is(err, ErrNotInQuarantine) { // the other process may have been first
		return err
	}
	return nil
}

// mustRunVictim runs a victim. It returns the punches that the victim printed as kept, and whether it was killed.
func mustRunVictim(t *testing.T, dir, url string, steps int) (kept map[string]string, killed bool) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	// The race detector delays the end of a process by a second, for its report.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10", victimDir+"="+dir, victimURL+"="+url, fmt.Sprintf("%s=%d", victimSteps, steps))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if killed = errors.As(err, &exit) && exit.ExitCode() < 0; !killed && err != nil {
		t.Errorf("killed at step %d: %v\n%s", steps, err, &stderr)
	}
	kept = map[string]string{}
	for lines := bufio.NewScanner(&stdout); lines.Scan(); {
		if id, kind, ok := strings.Cut(lines.Text(), " "); ok {
			kept[id] = kind
		}
	}
	return kept, killed
}

// TestKilledProcesses kills two processes that share an outbox, before each of their steps on the disk, while answers get
// lost. Each punch that a process called kept must be recorded once, or be in quarantine with the reason.
func TestKilledProcesses(t *testing.T) {
	store := clienttest.NewService()
	api, requests := store.MustHandler(t, "us-east-n1", time.Now), atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%3 != 0 {
			api.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler) // the punch is recorded, and its answer is lost
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	kept := map[string]string{}
	var mu sync.Mutex // guards kept
	for n, survivors := 1, 0; survivors < 2; n += 2 {
		survivors = 0
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				said, killed := mustRunVictim(t, dir, server.URL, n+i)
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(kept, said)
				if !killed {
					survivors++
				}
			})
		}
		both.Wait()
		if n > 500 || t.Failed() {
			t.Fatalf("processes still die at step %d", n)
		}
	}
	mustBeSettled(t, dir, server.URL, store, kept)
}

func mustBeSettled(t *testing.T, dir, url string, store *clienttest.Service, kept map[string]string) {
	t.Helper()
	box := mustOutbox(t, OutboxConfig{Dir: dir})
	done, err := box.Flush(background(t), mustNew(t, []string{url}))
	if err != nil || done.Kept != 0 {
		t.Fatalf("the last flush: %+v, %v", done, err)
	}
	refused := map[string]bool{}
	quarantined, err := box.Quarantined(background(t))
	for _, k := range quarantined {
		refused[k.ID.String()] = k.Refusal != nil && k.Refusal.Code == punch.Invalid && k.Refusal.Field == "kind" && k.Note == "ü"
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) < 10 {
		t.Fatalf("only %d punches were kept at all", len(kept))
	}
	for text, kind := range kept {
		id, err := punch.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		recorded := store.Recorded("e1", id)
		if recorded == (kind == "lunch") || refused[text] != (kind == "lunch") {
			t.Errorf("punch %s of kind %s was kept; recorded: %v, in quarantine with its reason: %v", text, kind, recorded, refused[text])
		}
	}
}
