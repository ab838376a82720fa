package region

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawSwitches returns switches with few versions, so that many of them have the same version and region.
func drawSwitches(t *rapid.T, label string) []Switch {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Switch {
		return Switch{
			Kind:   SwitchKind(rapid.IntRange(0, 1).Draw(t, "kind")),
			Region: rapid.SampledFrom(testRegions).Draw(t, "region"), Level: uint8(rapid.IntRange(0, 3).Draw(t, "level")),
			Version: rapid.Int64Range(1, 4).Draw(t, "version"),
			Until:   rapid.SampledFrom([]time.Time{{}, time.Unix(1, 0), time.Unix(1, 999), time.Unix(2, 0)}).Draw(t, "until"),
		}
	}), 0, 20).Draw(t, label)
}

// merged returns the state after all lists were merged, one after the other.
func merged(lists ...[]Switch) []Switch {
	var s Switches
	for _, list := range lists {
		for _, e := range list {
			s.Merge(e)
		}
	}
	return s.All()
}

// TestMergeIsASemilattice checks the three laws that make nodes converge, however switches travel between them.
func TestMergeIsASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := merged(drawSwitches(t, "a")), merged(drawSwitches(t, "b")), merged(drawSwitches(t, "c"))
		for law, sides := range map[string][2][]Switch{
			"commutative": {merged(a, b), merged(b, a)},
			"associative": {merged(merged(a, b), c), merged(a, merged(b, c))},
			"idempotent":  {merged(a, a), a},
		} {
			if !slices.Equal(sides[0], sides[1]) {
				t.Fatalf("Merge is not %s: a = %v, b = %v, c = %v give %v and %v", law, a, b, c, sides[0], sides[1])
			}
		}
	})
}

// TestMergeOrderDoesNotMatter merges the same switches in two orders, each twice in one of them.
func TestMergeOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawSwitches(t, "switches")
		shuffled := rapid.Permutation(append(slices.Clone(list), list...)).Draw(t, "order")
		if got, want := merged(shuffled), merged(list); !slices.Equal(got, want) {
			t.Fatalf("%v merged as %v gives %v, want %v", list, shuffled, got, want)
		}
	})
}

// TestMergeReportsChanges holds that Merge returns true exactly when the state changed. Gossip passes on what was
// news, so a wrong answer loses a switch or sends it forever.
func TestMergeReportsChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Switches
		for _, e := range drawSwitches(t, "switches") {
			before := s.All()
			news := s.Merge(e)
			if changed := !slices.Equal(before, s.All()); news != changed {
				t.Fatalf("Merge(%v) into %v returns %t and gives %v", e, before, news, s.All())
			}
		}
	})
}

func TestEvacuationEndsByItself(t *testing.T) {
	now := time.Now()
	var s Switches
	s.Merge(Switch{Region: "eu-west", Level: 1, Version: 1, Until: now.Add(time.Minute)})
	for _, c := range []struct {
		region Name
		at     time.Duration
		want   bool
	}{{"eu-west", 0, true}, {"eu-west", time.Minute, false}, {"us-east", 0, false}} {
		if got := s.Evacuated(c.region, now.Add(c.at)); got != c.want {
			t.Errorf("%s is evacuated after %s: %t, want %t; switches %v", c.region, c.at, got, c.want, s.All())
		}
	}
}

// TestMergeTies holds which of two switches of one version wins.
func TestMergeTies(t *testing.T) {
	soon, later := time.Unix(100, 0).UTC(), time.Unix(200, 0).UTC()
	for name, c := range map[string]struct{ winner, loser Switch }{
		"higher version":          {Switch{Version: 2}, Switch{Level: 1, Version: 1}},
		"later end":               {Switch{Level: 1, Version: 1, Until: later}, Switch{Level: 1, Version: 1, Until: soon}},
		"no end":                  {Switch{Version: 1}, Switch{Level: 1, Version: 1, Until: later}},
		"evacuation at same end":  {Switch{Level: 1, Version: 1, Until: soon}, Switch{Version: 1, Until: soon}},
		"evacuation without ends": {Switch{Level: 1, Version: 1}, Switch{Version: 1}},
		"higher level":            {Switch{Kind: Degradation, Level: 3, Version: 1}, Switch{Kind: Degradation, Level: 2, Version: 1}},
	} {
		for _, order := range [][]Switch{{c.winner, c.loser}, {c.loser, c.winner}} {
			if got := merged(order); len(got) != 1 || got[0] != c.winner {
				t.Errorf("%s: %v gives %v, want %v", name, order, got, c.winner)
			}
		}
	}
}
