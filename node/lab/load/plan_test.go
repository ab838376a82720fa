package load

import (
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

func defaultLoad() Load {
	return Load{Rate: 500, Duration: 20 * time.Second, CrossRegion: 0.25, Repeats: 0.02, Seed: 1, MaxInFlight: 100, TotalTimeout: time.Second}
}

func companies(n int) []cluster.Company { return make([]cluster.Company, n) }

func homeOf(company int) int { return company % 3 }

func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := defaultLoad()
		l.Rate = rapid.Float64Range(0.1, 2000).Draw(t, "rate")
		l.Duration = time.Duration(rapid.Int64Range(int64(time.Second), int64(time.Minute)).Draw(t, "duration"))
		l.Seed = rapid.Uint64().Draw(t, "seed")
		l.CrossRegion = rapid.Float64Range(0, 1).Draw(t, "travellers")
		l.Repeats = rapid.Float64Range(0, 1).Draw(t, "repeats")
		regions := rapid.IntRange(1, 3).Draw(t, "regions")
		home := func(company int) int { return company % regions }
		arrivals := plan(l, Stress{}, regions, companies(5), home)

		expected := l.Rate * l.Duration.Seconds() / 2
		// Six standard deviations, and a little more for the smallest plans.
		if d := math.Abs(float64(len(arrivals)) - expected); d > 6*math.Sqrt(expected)+8 {
			t.Fatalf("%d arrivals, want about %.0f", len(arrivals), expected)
		}
		last := time.Duration(0)
		for _, a := range arrivals {
			if a.at < last || a.at > l.Duration {
				t.Fatalf("an arrival at %s after one at %s, in a rush of %s", a.at, last, l.Duration)
			}
			last = a.at
			if a.entry < 0 || int(a.entry) >= regions || a.repeat < none || int(a.repeat) >= regions || a.company < 0 || a.company >= 5 {
				t.Fatalf("out of range: %+v", a)
			}
			if regions > 1 && a.repeat == a.entry {
				t.Fatalf("is repeated through the same region: %+v", a)
			}
			if l.CrossRegion == 0 && int(a.entry) != home(int(a.company)) {
				t.Fatalf("crosses regions although no punch should: %+v", a)
			}
		}
		if again := plan(l, Stress{}, regions, companies(5), home); !reflect.DeepEqual(arrivals, again) {
			t.Fatal("the same seed made another plan")
		}
	})
}

// TestPlanRisesAndFalls compares the arrivals in each tenth of the time with the integral of a raised cosine.
func TestPlanRisesAndFalls(t *testing.T) {
	l := defaultLoad()
	l.Rate, l.Duration = 10_000, 20*time.Second
	arrivals := plan(l, Stress{}, 3, companies(9), homeOf)
	counts := make([]float64, 10)
	crossed, repeated := 0.0, 0.0
	for _, a := range arrivals {
		counts[min(9, int(10*a.at/l.Duration))]++
		if int(a.entry) != homeOf(int(a.company)) {
			crossed++
		}
		if a.repeat != none {
			repeated++
		}
	}
	integral := func(x float64) float64 { return x - math.Sin(2*math.Pi*x)/(2*math.Pi) } // over [0, x], of 1
	n := float64(len(arrivals))
	for i, got := range counts {
		want := n * (integral(float64(i+1)/10) - integral(float64(i)/10))
		if math.Abs(got-want) > 6*math.Sqrt(want) {
			t.Errorf("%d of 10: %.0f arrivals, want about %.0f", i, got, want)
		}
	}
	if math.Abs(crossed/n-l.CrossRegion) > 0.01 || math.Abs(repeated/n-l.Repeats) > 0.005 {
		t.Errorf("%.3f travel and %.3f are repeated, want about %.3f and %.3f", crossed/n, repeated/n, l.CrossRegion, l.Repeats)
	}
}

func TestLoadIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Load){
		"rate 0":           func(l *Load) { l.Rate = 0 },
		"rate NaN":         func(l *Load) { l.Rate = math.NaN() },
		"rate Inf":         func(l *Load) { l.Rate = math.Inf(1) },
		"too many":         func(l *Load) { l.Rate = 1e9 },
		"too short":        func(l *Load) { l.Duration = time.Millisecond },
		"cross-region":     func(l *Load) { l.CrossRegion = 1.1 },
		"cross-region NaN": func(l *Load) { l.CrossRegion = math.NaN() },
		"repeats":          func(l *Load) { l.Repeats = -0.1 },
		"none in flight":   func(l *Load) { l.MaxInFlight = 0 },
		"no total timeout": func(l *Load) { l.TotalTimeout = 0 },
		"negative timeout": func(l *Load) { l.TotalTimeout = -time.Second },
	} {
		l := defaultLoad()
		change(&l)
		if l.validate(new(Stress)) == nil {
			t.Errorf("%s: accepted: %+v", name, l)
		}
	}
	l := defaultLoad()
	if err := l.validate(new(Stress)); err != nil {
		t.Error(err)
	}
}
