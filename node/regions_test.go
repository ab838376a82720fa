package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// labels is the list of regions in a database that can be made to refuse.
type labels struct {
	mu    sync.Mutex // guards the fields below
	list  []string
	err   error
	reads int
}

func (l *labels) read(context.Context) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	return slices.Clone(l.list), l.err
}

func (l *labels) set(err error, list ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list, l.err = list, err
}

func TestAnUnknownRegionIsLookedUpAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &labels{list: []string{"us-east"}}
		k := &knownRegions{read: db.read, log: slog.New(slog.DiscardHandler)}
		if _, err := k.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := k.check(t.Context(), "us-east"); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			if err := k.check(t.Context(), "eu-west"); punch.CodeOf(err) != punch.NotHome {
				t.Fatalf("an unknown region: %v, want NotHome", err)
			}
		}
		if db.reads != 2 {
			t.Errorf("%d reads, want that of the start and one for the unknown region", db.reads)
		}
		db.set(nil, "us-east", "eu-west")
		time.Sleep(regionsAskAgain + time.Millisecond)
		if err := k.check(t.Context(), "eu-west"); err != nil {
			t.Errorf("a region that was added: %v", err)
		}
		db.set(errors.New("connection refused"))
		time.Sleep(regionsAskAgain + time.Millisecond)
		if err := k.check(t.Context(), "ap-south"); err == nil || punch.CodeOf(err) == punch.NotHome {
			t.Errorf("a database that refuses: %v, want no NotHome", err)
		}
		if err := k.check(t.Context(), "eu-west"); err != nil {
			t.Errorf("a known region needs no database: %v", err)
		}
	})
}

// TestThePunchesOfAKnownRegionDoNotDelayTheList checks known regions all the time. The list must still be read once a
// minute, and again soon after a failure.
func TestThePunchesOfAKnownRegionDoNotDelayTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &labels{list: []string{"us-east"}}
		k := &knownRegions{read: db.read, log: slog.New(slog.DiscardHandler)}
		if _, err := k.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		loop.Go(func() { k.keepFresh(ctx) })
		db.set(errors.New("connection refused"))
		pass := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * regionsAskAgain) {
				if err := k.check(t.Context(), "us-east"); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		pass(regionsMaxAge + regionsRetry)
		db.set(nil, "us-east", "eu-west")
		pass(regionsRetry)
		if got := k.all(); !slices.Equal(got, []region.Name{"us-east", "eu-west"}) {
			t.Errorf("the list is %v", got)
		}
		cancel()
		loop.Wait()
	})
}
