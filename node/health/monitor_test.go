package health

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/region"
)

var discard = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started returns the monitor of a node that is ready, and the states that it publishes from then on.
func started() (*Monitor, *[]region.State) {
	m, published := NewMonitor(discard), new([]region.State)
	m.Set(Starting, "")
	m.OnChange(func(s region.State) { *published = append(*published, s) })
	return m, published
}

func TestSubscribersHearOfEveryChangeOfCauses(t *testing.T) {
	for name, test := range map[string]struct {
		steps func(m *Monitor)
		want  []region.State
	}{
		"the clock is wrong, then the region is evacuated": {
			func(m *Monitor) { m.Set(WrongClock, "off"); m.Set(Evacuated, "evacuated") },
			[]region.State{region.Ready, region.Warming, region.Draining},
		},
		"the region is evacuated and restored while the clock is wrong": {
			func(m *Monitor) { m.Set(Evacuated, "evacuated"); m.Set(WrongClock, "off"); m.Set(Evacuated, "") },
			[]region.State{region.Ready, region.Draining, region.Draining, region.Warming},
		},
		"a new text for the same cause": {
			func(m *Monitor) { m.Set(WrongClock, "2 s off"); m.Set(WrongClock, "3 s off"); m.Set(WrongClock, "") },
			[]region.State{region.Ready, region.Warming, region.Ready},
		},
		"a drain is final": {
			func(m *Monitor) { m.Drain(); m.Set(WrongClock, "off"); m.Set(WrongClock, ""); m.Set(Starting, "") },
			[]region.State{region.Ready, region.Draining, region.Draining, region.Draining},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, published := started()
			test.steps(m)
			if !slices.Equal(*published, test.want) {
				t.Errorf("published %v, want %v", *published, test.want)
			}
		})
	}
}

// TestADrainingNodeIsNeverPublishedAsReady changes causes from several goroutines while the node drains. Peers keep
// the state that was published last, so an old "ready" must not come after "draining".
func TestADrainingNodeIsNeverPublishedAsReady(t *testing.T) {
	for range 200 {
		m, published := started()
		var drained atomic.Bool
		m.OnChange(func(s region.State) {
			if drained.Load() && s != region.Draining {
				t.Errorf("%s was published after the drain began", s)
			}
		})
		var changes sync.WaitGroup
		for _, cause := range []Cause{WrongClock, NoDatabase, Evacuated} {
			changes.Go(func() {
				for range 5 {
					m.Set(cause, "wrong")
					m.Set(cause, "")
				}
			})
		}
		changes.Go(func() { m.Drain(); drained.Store(true) })
		changes.Wait()
		if last := (*published)[len(*published)-1]; last != region.Draining || m.State() != region.Draining {
			t.Fatalf("the last published state is %s, and the state is %s", last, m.State())
		}
	}
}

// TestStateFollowsFromTheCauses holds the rules of DESIGN.md for arbitrary sequences of changes.
func TestStateFollowsFromTheCauses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, published := started()
		present := map[Cause]bool{}
		causes := rapid.SampledFrom([]Cause{Starting, WrongClock, NoDatabase, Evacuated, draining})
		for range rapid.IntRange(0, 30).Draw(t, "changes") {
			cause := causes.Draw(t, "cause")
			if cause == draining {
				m.Drain()
				present[draining] = true
			} else {
				text := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "reason")
				m.Set(cause, text)
				present[cause] = text != ""
			}
			count := 0
			for _, is := range present {
				if is {
					count++
				}
			}
			want := region.Ready
			switch {
			case present[draining] || present[Evacuated]:
				want = region.Draining
			case count > 0:
				want = region.Warming
			}
			last := (*published)[len(*published)-1]
			if m.State() != want || last != want || m.Ready() != (want == region.Ready) || m.Leaving() != (want == region.Draining) {
				t.Fatalf("with %v the state is %s and %s was published, want %s", present, m.State(), last, want)
			}
			if len(m.NotReady()) != count || !slices.IsSorted(m.NotReady()) {
				t.Fatalf("with %v the reasons are %q", present, m.NotReady())
			}
		}
	})
}
