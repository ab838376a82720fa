package region

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSwitchesConverge learns the same switches in two orders, some of them
// twice: both must end with the same.
func TestSwitchesConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var news []Evacuation
		for version := range rapid.Int64Range(1, 20).Draw(t, "switches") {
			news = append(news, Evacuation{
				Region: rapid.SampledFrom(testRegions).Draw(t, "region"), On: rapid.Bool().Draw(t, "on"), Version: version/3 + 1,
				Until: rapid.SampledFrom([]time.Time{{}, time.Unix(1, 0), time.Unix(2, 0)}).Draw(t, "until"),
			})
		}
		var a, b Switches
		for _, e := range news {
			a.Learn(e)
		}
		for _, e := range rapid.Permutation(append(slices.Clone(news), news...)).Draw(t, "order") {
			b.Learn(e)
		}
		if !slices.Equal(a.All(), b.All()) || a.Next() != b.Next() {
			t.Fatalf("%v and %v", a.All(), b.All())
		}
	})
}

func TestAnEvacuationEndsByItself(t *testing.T) {
	now := time.Now()
	var s Switches
	s.Learn(Evacuation{Region: "eu-west", On: true, Version: 1, Until: now.Add(time.Minute)})
	if !s.Evacuated("eu-west", now) || s.Evacuated("eu-west", now.Add(time.Minute)) || s.Evacuated("us-east", now) {
		t.Errorf("switches %v", s.All())
	}
	if s.Learn(Evacuation{Region: "eu-west", Version: 1, Until: now}) || !s.Learn(Evacuation{Region: "eu-west", Version: 2}) || s.Evacuated("eu-west", now) {
		t.Error("the higher version must hold")
	}
}
