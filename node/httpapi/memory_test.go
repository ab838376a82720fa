package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/punch"
)

// countedBody counts how often it is read.
type countedBody struct {
	io.Reader
	reads int
}

func (b *countedBody) Read(p []byte) (int, error) {
	b.reads++
	return b.Reader.Read(p)
}

// straight hands a body of unknown length to the handler, without a wire that reads ahead.
func (h *harness) straight(t *testing.T, path string, body io.Reader, authorization string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, io.NopCloser(body))
	r.ContentLength = -1
	r.Header.Set("Authorization", authorization)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestBatchesHoldBoundedMemory(t *testing.T) {
	h := newHarness(t)
	database := make(chan struct{}) // closed when it answers again
	h.store.fail = func(ctx context.Context, _ string) error {
		select {
		case <-database:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	gate := h.as(t, auth.Kiosk, "gate")
	most := int(maxHeldByBatches / batchMemory(-1, h.cfg.MaxBody))
	var callers sync.WaitGroup
	send := func(path, body string, want int) {
		callers.Go(func() {
			if w := h.straight(t, path, strings.NewReader(body), gate); w.Code != want {
				t.Errorf("POST %s was answered %d %s, want %d", path, w.Code, w.Body, want)
			}
		})
	}
	for i := range most {
		send("/v1/punches/batch", batchOf(someone(i)), http.StatusOK)
	}
	eventually(t, "all batches wait for the database", func() bool { return h.InFlight() == int64(most) })

	refused := &countedBody{Reader: strings.NewReader(batchOf(someone(most)))}
	w := h.straight(t, "/v1/punches/batch", refused, gate)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || refused.reads != 0 {
		t.Errorf("batch %d was answered %d %s with Retry-After %q after %d reads of its body, want 503 before the first read",
			most+1, w.Code, w.Body, w.Header().Get("Retry-After"), refused.reads)
	}
	send("/v1/punches", good, http.StatusCreated) // outboxes leave room for people
	eventually(t, "a single punch enters beside the batches", func() bool { return h.InFlight() == int64(most)+1 })
	close(database)
	callers.Wait()
	if held := h.memory.held.Load(); held != 0 {
		t.Errorf("%d bytes are held after all answers, want none", held)
	}
	if w := h.straight(t, "/v1/punches/batch", refused, gate); w.Code != http.StatusOK {
		t.Errorf("the refused batch was answered %d %s afterwards, want 200", w.Code, w.Body)
	}
}

func TestSinglePunchesHoldBoundedMemory(t *testing.T) {
	h := newHarness(t)
	gate := h.as(t, auth.Kiosk, "gate")
	if err := h.memory.hold(maxHeld-heldByPunch+1, maxHeld); err != nil {
		t.Fatal(err)
	}
	body := &countedBody{Reader: strings.NewReader(good)}
	if w := h.straight(t, "/v1/punches", body, gate); w.Code != http.StatusServiceUnavailable || body.reads != 0 {
		t.Errorf("a punch beyond the bound was answered %d %s after %d reads of its body, want 503 before the first read",
			w.Code, w.Body, body.reads)
	}
	h.memory.release(1)
	if w := h.straight(t, "/v1/punches", body, gate); w.Code != http.StatusCreated {
		t.Errorf("the last punch with room was answered %d %s, want 201", w.Code, w.Body)
	}
}

func TestBatchMemoryFollowsTheBody(t *testing.T) {
	const most = 1 << 20
	for _, c := range []struct{ length, want int64 }{
		{0, heldByPunch},
		{75, 75*heldByByte + 2*heldByPunch},
		{most, most*heldByByte + batchWorkers*heldByPunch},
		{most + 1, most*heldByByte + batchWorkers*heldByPunch},
		{-1, most*heldByByte + batchWorkers*heldByPunch},
	} {
		if got := batchMemory(c.length, most); got != c.want {
			t.Errorf("a body of %d bytes holds %d, want %d", c.length, got, c.want)
		}
	}
	if most := batchMemory(-1, most); most > maxHeldByBatches {
		t.Errorf("the largest batch needs %d bytes and would never enter, the bound is %d", most, maxHeldByBatches)
	}
	var m memory
	if err := m.hold(2, 1); punch.CodeOf(err) != punch.Overloaded || m.held.Load() != 0 {
		t.Errorf("a hold beyond the bound returned %v and left %d bytes", err, m.held.Load())
	}
}
