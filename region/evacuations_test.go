package region

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawEvacuations returns switches with few versions, so that many of them have the same version and region.
func drawEvacuations(t *rapid.T, label string) []Evacuation {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Evacuation {
		return Evacuation{
			Region: rapid.SampledFrom(testRegions).Draw(t, "region"), On: rapid.Bool().Draw(t, "on"),
			Version: rapid.Int64Range(1, 4).Draw(t, "version"),
			Until:   rapid.SampledFrom([]time.Time{{}, time.Unix(1, 0), time.Unix(1, 999), time.Unix(2, 0)}).Draw(t, "until"),
		}
	}), 0, 20).Draw(t, label)
}

// merged returns the state after all lists were merged, one after the other.
func merged(lists ...[]Evacuation) []Evacuation {
	var s Evacuations
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
		a, b, c := merged(drawEvacuations(t, "a")), merged(drawEvacuations(t, "b")), merged(drawEvacuations(t, "c"))
		for law, sides := range map[string][2][]Evacuation{
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
		list := drawEvacuations(t, "switches")
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
		var s Evacuations
		for _, e := range drawEvacuations(t, "switches") {
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
	var s Evacuations
	s.Merge(Evacuation{Region: "eu-west", On: true, Version: 1, Until: now.Add(time.Minute)})
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
	for name, c := range map[string]struct{ winner, loser Evacuation }{
		"higher version":          {Evacuation{Version: 2}, Evacuation{On: true, Version: 1}},
		"later end":               {Evacuation{On: true, Version: 1, Until: later}, Evacuation{On: true, Version: 1, Until: soon}},
		"no end":                  {Evacuation{Version: 1}, Evacuation{On: true, Version: 1, Until: later}},
		"evacuation at same end":  {Evacuation{On: true, Version: 1, Until: soon}, Evacuation{Version: 1, Until: soon}},
		"evacuation without ends": {Evacuation{On: true, Version: 1}, Evacuation{Version: 1}},
	} {
		for _, order := range [][]Evacuation{{c.winner, c.loser}, {c.loser, c.winner}} {
			if got := merged(order); len(got) != 1 || got[0] != c.winner {
				t.Errorf("%s: %v gives %v, want %v", name, order, got, c.winner)
			}
		}
	}
}
