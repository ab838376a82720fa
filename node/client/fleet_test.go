package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/node/admission"
	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// station is a node of fixed speed behind a real valve and real levels.
type station struct {
	service *clienttest.Service
	api     http.Handler
	each    time.Duration // for a punch

	mu      sync.Mutex // guards the fields below
	free    time.Time  // when all accepted work is done
	batches []time.Time
	refused int
}

func newStation(t *testing.T, each time.Duration) *station {
	t.Helper()
	s := &station{service: clienttest.NewService(), each: each}
	const target = 25 * time.Millisecond
	valve, err := admission.New(admission.Config{Target: target, Interval: 100 * time.Millisecond, MinRate: 5},
		admission.Deps{Wait: s.wait, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	levels, err := admission.NewLevels(admission.LevelsDeps{
		Manual: func() uint8 { return 0 }, Valve: valve.State, Target: target, Clock: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.service.Gate, s.service.Levels, s.service.Work = valve, levels, s.work
	s.api = s.service.MustHandler(t, "us-east-n1", time.Now)
	ctx, stop := context.WithCancel(t.Context())
	var gossip sync.WaitGroup
	gossip.Go(func() {
		for sleep(ctx, time.Second) == nil {
			levels.Level()
		}
	})
	t.Cleanup(func() { stop(); gossip.Wait() })
	return s
}

func (s *station) wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, time.Until(s.free))
}

// work waits for the punches before, and then for its own time.
func (s *station) work() {
	s.mu.Lock()
	if now := time.Now(); s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(s.each)
	end := s.free
	s.mu.Unlock()
	time.Sleep(time.Until(end))
}

// answer is the network of a device, without its delays.
func (s *station) answer(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	arrived := time.Now()
	s.api.ServeHTTP(w, r)
	if strings.HasSuffix(r.URL.Path, "/batch") {
		s.mu.Lock()
		s.batches = append(s.batches, arrived)
		if w.Code == http.StatusServiceUnavailable {
			s.refused++
		}
		s.mu.Unlock()
	}
	return w.Result(), nil
}

// peak returns the most batches in any window of that length, from a time on.
func (s *station) peak(from time.Time, window time.Duration) (most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.batches, time.Time.Compare)
	for i, first := range s.batches {
		if first.Before(from) {
			continue
		}
		end, _ := slices.BinarySearchFunc(s.batches, first.Add(window), time.Time.Compare)
		most = max(most, end-i)
	}
	return most
}

// TestAFleetEmptiesItsOutboxesAfterAnOutage turns on many devices with stored punches at the same moment, as after a power
// failure. The node can carry a part of them. After the first wave the uploads must be spread over minutes, every punch
// must arrive, and a person who punches meanwhile must not wait.
func TestAFleetEmptiesItsOutboxesAfterAnOutage(t *testing.T) {
	const devices, each, firstWave = 200, 2, 2 * time.Second
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, 15*time.Millisecond) // 33 batches a second; the first wave brings 100
		began := time.Now()
		ctx, stop := context.WithCancel(t.Context())
		var stored []Request
		var fleet, emptied sync.WaitGroup
		for i := range devices {
			box, c := mustOutbox(t, OutboxConfig{}), mustDefault(t, []string{"http://node"}, s.answer)
			for j := range each {
				r := Request{ID: punch.IDAt(began.Add(-time.Hour)), Employee: fmt.Sprintf("e%d-%d", i, j), Kind: punch.In}
				mustPut(t, box, r)
				stored = append(stored, r)
			}
			emptied.Add(1)
			left := each
			fleet.Go(func() {
				time.Sleep(rand.N(firstWave))
				box.Run(ctx, c, func(f Flushed, err error) {
					if err != nil || len(f.Refused) > 0 {
						t.Errorf("device %d: %v, refused %v", i, err, f.Refused)
					}
					if left -= len(f.Receipts); left == 0 {
						emptied.Done()
					}
				})
			})
		}
		fleet.Go(func() { // a person at a gate that stores punches as well
			box, c := mustOutbox(t, OutboxConfig{}), mustDefault(t, []string{"http://node"}, s.answer)
			for i := 0; sleep(ctx, time.Second) == nil; i++ {
				pressed := time.Now()
				r := Request{ID: punch.NewID(), Employee: fmt.Sprint("person", i), Kind: punch.In}
				if _, err := box.Punch(ctx, c, r); ctx.Err() == nil && (err != nil || time.Since(pressed) > 3*time.Second) {
					t.Errorf("%s after the start a person waited %s, %v", pressed.Sub(began), time.Since(pressed), err)
				}
			}
		})
		emptied.Wait()
		took := time.Since(began)
		stop()
		fleet.Wait()
		for _, r := range stored {
			if !s.service.Recorded(r.Employee, r.ID) {
				t.Errorf("punch %s of %s did not arrive", r.ID, r.Employee)
			}
		}
		const window = 10 * time.Second
		peak := s.peak(began.Add(firstWave), window)
		t.Logf("%d batches, %d refused; after the first wave at most %d in %s; all arrived after %s", len(s.batches), s.refused, peak, window, took)
		// 200 devices over 300 s are 7 in a window of 10 s. Without slots 197 came in one window.
		if peak > 25 {
			t.Errorf("after the first wave %d uploads came within %s, want at most 25", peak, window)
		}
		if s.refused < devices/4 || len(s.batches) > 3*devices || took > 12*time.Minute {
			t.Errorf("%d batches, %d refused, all arrived after %s; want a wave that is too much, at most 3 batches of a device, and 12 minutes",
				len(s.batches), s.refused, took)
		}
	})
}
