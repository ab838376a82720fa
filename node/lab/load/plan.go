package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// Load is the shape of a load, as flags.
type Load struct {
	Rate     float64       `help:"Punches per second at the peak; the average is half of it." default:"500"`
	Duration time.Duration `help:"How long punches arrive." default:"25s"`
	Steady   bool          `help:"Keep the rate constant instead of rising and falling."`
	// Punches that cross regions cost the most, and their path has the most faults.
	CrossRegion float64 `help:"Share of the punches that enter outside the company's home region." default:"0.25"`
	// A device that lost an answer asks again. Only an outage causes more than a few in a hundred.
	Repeats float64 `help:"Share of the punches that are sent again under the same id through another region." default:"0.02"`
	Seed    uint64  `help:"Seed of arrivals and employees; the same seed makes the same load." default:"1"`
	// At 500 punches a second, 4,000 wait after 8 s without any answer. A crashed database region hands over in less.
	MaxInFlight int `help:"Most punches under way at the same time. Beyond it punches are dropped, and the run is void." default:"4000"`
	// Three attempts of 15 s, which is a node's own limit.
	TotalTimeout time.Duration `help:"How long a punch is retried before it counts as unresolved." default:"45s"`
	// The client's default is for slow mobile links.
	AttemptTimeout time.Duration `help:"When a device gives up on one endpoint and tries the next; the client's default when 0." default:"0s"`
}

// maxPlanned limits the memory of a plan: 5 million arrivals take 240 MB.
const maxPlanned = 5_000_000

func (l *Load) validate() error {
	switch {
	case !(l.Rate > 0) || math.IsInf(l.Rate, 0):
		return fmt.Errorf("--rate: must be more than 0, is %g", l.Rate)
	case l.Duration < time.Second:
		return fmt.Errorf("--duration: must be at least 1s, is %s", l.Duration)
	case l.expected() > maxPlanned:
		return fmt.Errorf("--rate: %g over %s are more than %d punches", l.Rate, l.Duration, maxPlanned)
	case !(l.CrossRegion >= 0 && l.CrossRegion <= 1):
		return fmt.Errorf("--cross-region: must be 0 to 1, is %g", l.CrossRegion)
	case !(l.Repeats >= 0 && l.Repeats <= 1):
		return fmt.Errorf("--repeats: must be 0 to 1, is %g", l.Repeats)
	case l.MaxInFlight < 1:
		return fmt.Errorf("--max-in-flight: must be at least 1, is %d", l.MaxInFlight)
	case l.TotalTimeout <= 0:
		return fmt.Errorf("--total-timeout: must be more than 0, is %s", l.TotalTimeout)
	case l.AttemptTimeout < 0:
		return fmt.Errorf("--attempt-timeout: must not be negative, is %s", l.AttemptTimeout)
	default:
		return nil
	}
}

// expected returns the average number of punches of the load.
func (l *Load) expected() float64 {
	if l.Steady {
		return l.Rate * l.Duration.Seconds()
	}
	return l.Rate * l.Duration.Seconds() / 2
}

// arrival is one planned punch. Regions and companies are indexes into the Config.
type arrival struct {
	at       time.Duration // after the begin of the load
	behind   time.Duration // age of the At that the device sends; negative if it sends none
	company  int
	employee int
	entry    int
	repeat   int // the region of the repeat, or none
	kind     punch.Kind
	source   string
	note     string
}

const none = -1

func employeeCount(c *cluster.Company) int {
	if c.Employees > 0 {
		return c.Employees
	}
	return 10_000
}

// plan draws all arrivals of a load, in order. They are a Poisson process. Its rate is steady, or rises and falls as a
// raised cosine, rate/2 · (1 − cos 2πt/T).
func plan(l Load, regions int, companies []cluster.Company, home func(company int) int) []arrival {
	random := rand.New(rand.NewPCG(l.Seed, 0))
	total := l.Duration.Seconds()
	expected := l.expected()
	arrivals := make([]arrival, 0, int(expected+4*math.Sqrt(expected)))
	employees := make([]int, len(companies))
	t := 0.0
	for due := random.ExpFloat64(); due < expected; due += random.ExpFloat64() {
		if l.Steady {
			t = due / l.Rate
		} else {
			t = invert(l.Rate, total, t, due)
		}
		company := random.IntN(len(companies))
		a := arrival{
			at: time.Duration(t * float64(time.Second)), company: company,
			// Employees take turns, because an employee does not punch twice within seconds.
			employee: employees[company] % employeeCount(&companies[company]),
			entry:    home(company), repeat: none, behind: none,
			kind: pickKind(random), source: pickSource(random), note: pickNote(random),
		}
		employees[company]++
		if regions > 1 && random.Float64() < l.CrossRegion {
			a.entry = other(random, regions, a.entry)
		}
		if random.Float64() < l.Repeats {
			a.repeat = other(random, regions, a.entry)
		}
		if random.Float64() < 0.7 { // most terminals send their clock, some rely on the id
			a.behind = time.Duration(random.Int64N(int64(20 * time.Second)))
		}
		arrivals = append(arrivals, a)
	}
	return arrivals
}

// invert returns the time t ≥ from at which the integral of the rate reaches due. The integral rises, so bisection
// finds t.
func invert(rate, total, from, due float64) float64 {
	low, high := from, total
	for range 50 { // from days to less than a nanosecond
		t := (low + high) / 2
		if rate*(t/2-total/(4*math.Pi)*math.Sin(2*math.Pi*t/total)) < due {
			low = t
		} else {
			high = t
		}
	}
	return high
}

// other draws a region other than the given one. With one region it returns that region.
func other(random *rand.Rand, regions, not int) int {
	if regions == 1 {
		return not
	}
	r := random.IntN(regions - 1)
	if r >= not {
		r++
	}
	return r
}

// pickKind draws a kind. In the morning most employees arrive, and the night shift leaves.
func pickKind(random *rand.Rand) punch.Kind {
	switch x := random.Float64(); {
	case x < 0.80:
		return punch.In
	case x < 0.90:
		return punch.Auto
	case x < 0.96:
		return punch.Out
	case x < 0.98:
		return punch.BreakStart
	default:
		return punch.BreakEnd
	}
}

func pickSource(random *rand.Rand) string {
	if random.Float64() < 0.2 {
		return ""
	}
	return fmt.Sprintf("gate-%d", 1+random.IntN(8))
}

// notes contain what faulty code breaks on: quotes, accents, wide characters, a line break.
var notes = []string{
	"forgot the badge", "späte Bahn, Gleis 3", "电梯故障，迟到五分钟", "said \"5 minutes\"; it's 10", "first line\nsecond line",
}

func pickNote(random *rand.Rand) string {
	if random.Float64() < 0.95 {
		return ""
	}
	return notes[random.IntN(len(notes))]
}
