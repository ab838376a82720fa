package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/punch"
)

// send records n punches. It returns how many calls peer a got and how many punches this node wrote.
func (w *world) send(t *testing.T, d *Dispatch, n int) (toPeer, local int) {
	t.Helper()
	w.asked = nil
	for range n {
		if _, err := d.Record(t.Context(), aPunch()); err != nil {
			t.Fatalf("a punch failed: %v", err)
		}
	}
	for _, what := range w.asked {
		switch what {
		case "peer a":
			toPeer++
		case "local eu-west":
			local++
		}
	}
	return toPeer, local
}

func TestThreeFailedCallsOpenTheBreakerAndAProbeClosesIt(t *testing.T) {
	var err error
	w := &world{home: home("eu-west", 1), cached: home("eu-west", 1), candidate: candidates("a")}
	w.peers = map[string]func() error{"a": func() error { return err }}
	d := mustDispatch(t, w)
	defer d.Close(t.Context()) //nolint:errcheck // nothing waits
	err = errors.New("connection refused")
	if calls, local := w.send(t, d, 20); calls != openAfter || local != 20 {
		t.Errorf("20 punches: a failing peer was called %d times, and this node wrote %d; want %d and 20", calls, local, openAfter)
	}
	if open := d.OpenBreakers(); fmt.Sprint(open) != "[a]" {
		t.Errorf("open breakers %v", open)
	}
	err = nil
	deadline := time.Now().Add(10 * probeAfter)
	for len(d.OpenBreakers()) > 0 { // a due probe is sent with the punches
		w.send(t, d, 1)
		if time.Now().After(deadline) {
			t.Fatal("the breaker of a working peer stays open")
		}
		time.Sleep(probeAfter / 20) // poll
	}
	if calls, local := w.send(t, d, 5); calls != 5 || local != 0 {
		t.Errorf("after its recovery the peer was called for %d of 5 punches", calls)
	}
}

func TestRefusalsOfAPeerDoNotOpenItsBreaker(t *testing.T) {
	for _, code := range []punch.Code{punch.Invalid, punch.Conflict, punch.UnknownCompany, punch.Overloaded, punch.Unavailable} {
		w := &world{home: home("eu-west", 1), cached: home("eu-west", 1), candidate: candidates("a")}
		w.peers = map[string]func() error{"a": func() error { return punch.Errorf(code, "no") }}
		d := mustDispatch(t, w)
		for range 20 {
			_, _ = d.Record(t.Context(), aPunch())
		}
		if open := d.OpenBreakers(); len(open) > 0 {
			t.Errorf("20 answers %s opened the breaker", code)
		}
		_ = d.Close(t.Context())
	}
}

// TestAnInconclusiveProbeDoesNotCloseTheBreaker probes a frozen peer with a punch that has almost no time left.
func TestAnInconclusiveProbeDoesNotCloseTheBreaker(t *testing.T) {
	w := &world{home: home("eu-west", 1), cached: home("eu-west", 1), candidate: candidates("a")}
	d := mustDispatch(t, w)
	defer d.Close(t.Context()) //nolint:errcheck // nothing waits
	breaker := d.breakers.of("a")
	breaker.HalfOpen()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	w.peers = map[string]func() error{"a": func() error {
		<-ctx.Done()
		return ctx.Err()
	}}
	_, _ = d.Record(ctx, aPunch())
	if !breaker.IsOpen() {
		t.Errorf("the breaker is %s", breaker.State())
	}
	breaker.Close()
	for range 2 * openAfter { // this node gives up each call: the peer is not at fault
		_, _ = d.Record(ctx, aPunch())
	}
	if !breaker.IsClosed() {
		t.Errorf("the breaker is %s", breaker.State())
	}
}

func TestASlowPeerOpensItsBreaker(t *testing.T) {
	w := &world{home: home("eu-west", 1), cached: home("eu-west", 1), candidate: candidates("a"), overhead: 2 * slowAfter}
	d := mustDispatch(t, w)
	defer d.Close(t.Context()) //nolint:errcheck // nothing waits
	if calls, local := w.send(t, d, 10); calls != openAfter || local != 10-openAfter {
		t.Errorf("10 punches: a slow peer was called %d times, and this node wrote %d", calls, local)
	}
}

// TestRetriesTowardsPeersAreBudgeted lets every first candidate answer Unavailable. Only a share of the punches may go to
// the second candidate. This node writes the others, and no punch fails.
func TestRetriesTowardsPeersAreBudgeted(t *testing.T) {
	w := &world{home: home("eu-west", 1), cached: home("eu-west", 1), candidate: candidates("a", "b")}
	w.peers = map[string]func() error{"a": func() error { return punch.Retryable(punch.Unavailable, time.Second, "no database here", nil) }}
	d := mustDispatch(t, w)
	defer d.Close(t.Context()) //nolint:errcheck // nothing waits
	const punches = 10_000
	_, local := w.send(t, d, punches)
	second := punches - local
	if most := minRetries + retryShare*punches; float64(second) > most || second < minRetries {
		t.Errorf("the second candidate was called for %d of %d punches, want at most %.0f", second, punches, most)
	}
}

// TestAPeerThatIsSlowBesideAnotherOpensItsBreaker has two peers in a region. One takes long for every call, and the
// overhead of its calls does not show it.
func TestAPeerThatIsSlowBesideAnotherOpensItsBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			other time.Duration
			open  bool
		}{{10 * time.Millisecond, true}, {slowAfter, false}} {
			bs := newBreakers(func(string) bool { return true }, func(string, bool) {})
			for range openAfter {
				time.Sleep(2 * slowAfter)
				bs.recordAnswer("b", answer{home: "eu-west", at: time.Now(), took: c.other})
				bs.recordAnswer("elsewhere", answer{home: "us-east", at: time.Now(), took: time.Millisecond})
				if bs.recordAnswer("a", answer{home: "eu-west", at: time.Now(), took: 2 * slowAfter}) {
					bs.of("a").RecordFailure()
				}
			}
			if open := bs.of("a").IsOpen(); open != c.open {
				t.Errorf("beside a peer that takes %s: open %t", c.other, open)
			}
		}
		bs := newBreakers(func(string) bool { return true }, func(string, bool) {})
		bs.recordAnswer("b", answer{home: "eu-west", at: time.Now(), took: time.Millisecond}) // before the outage
		time.Sleep(2*slowAfter + 1)
		if bs.recordAnswer("a", answer{home: "eu-west", at: time.Now(), took: 2 * slowAfter}) {
			t.Error("a peer counts as slow by an answer from before its call")
		}
	})
}

func TestBreakersOfDepartedNodesAreForgotten(t *testing.T) {
	present := map[string]bool{"a": true, "b": true}
	bs := newBreakers(func(node string) bool { return present[node] }, func(string, bool) {})
	bs.of("a").Open()
	if got := fmt.Sprint(bs.open()); got != "[a]" {
		t.Errorf("open breakers %s", got)
	}
	delete(present, "a")
	if got := bs.open(); len(got) > 0 {
		t.Errorf("open breakers %v after the node has left", got)
	}
	bs.of("b")
	if len(bs.byNode) != 1 {
		t.Errorf("%d breakers are kept for one node", len(bs.byNode))
	}
}

// TestBudgetNeverExceedsItsShare checks the ten seconds before each retry.
func TestBudgetNeverExceedsItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b budget
		var sent, spent [40]int
		for second := range rapid.IntRange(1, len(sent)).Draw(t, "seconds") {
			now := time.Unix(1_800_000_000+int64(second), 0)
			for range rapid.IntRange(0, 5).Draw(t, "steps") {
				n := rapid.IntRange(1, 3000).Draw(t, "punches")
				if rapid.Bool().Draw(t, "sent") {
					b.sent(now, n)
					sent[second] += n
					continue
				}
				if !b.spend(now, n) {
					continue
				}
				spent[second] += n
				in, out := 0, 0
				for s := max(0, second-budgetSeconds+1); s <= second; s++ {
					in, out = in+sent[s], out+spent[s]
				}
				if float64(out) > max(retryShare*float64(in), minRetries) {
					t.Fatalf("%d retries for %d punches", out, in)
				}
			}
		}
	})
}
