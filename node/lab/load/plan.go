package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// arrival is one planned punch. It has no pointers, so the garbage collector does not scan millions of arrivals.
// Regions, companies, kinds, sources and notes are indexes.
type arrival struct {
	at       time.Duration // after the begin of the load
	behind   time.Duration // age of the At that the device sends; negative if it sends none
	company  int32
	employee int32
	entry    int32
	repeat   int32 // the region of the repeat, or none
	kind     uint8
	source   uint8
	note     uint8
}

const none = -1

// request returns the punch of an arrival that was due at intended.
func (a *arrival) request(company string, intended time.Time) punch.Request {
	r := punch.Request{
		Company: company, Employee: fmt.Sprintf("e%06d", a.employee), ID: punch.IDAt(intended),
		Kind: kinds[a.kind], Source: sources[a.source], Note: notes[a.note],
	}
	if a.behind >= 0 {
		r.At = punch.Microseconds(intended.Add(-a.behind))
	}
	return r
}

// turn is the shortest time between two punches of an employee. People do not punch more often, and a node limits the
// punches of an employee.
const turn = 60 * time.Second

// employeeCount returns how many employees of a company take turns.
func employeeCount(c *cluster.Company, rate float64) int32 {
	if c.Employees > 0 {
		return int32(c.Employees)
	}
	return max(10_000, int32(rate*turn.Seconds()))
}

// plan draws all arrivals of a load, in order. They are a Poisson process. Its rate is steady, or rises and falls as a
// raised cosine, rate/2 · (1 − cos 2πt/T), or is steady with an overload in the middle.
func plan(l Load, stress Stress, regions int, companies []cluster.Company, home func(company int) int) []arrival {
	random := rand.New(rand.NewPCG(l.Seed, 0))
	expected := l.expected(&stress)
	arrivals := make([]arrival, 0, int(expected+4*math.Sqrt(expected)))
	turns := make([]int32, len(companies))
	flood := slices.IndexFunc(companies, func(c cluster.Company) bool { return stress.Flood != "" && c.ID == stress.Flood })
	clock := newClock(&l, &stress)
	for due := random.ExpFloat64(); due < expected; due += random.ExpFloat64() {
		at := clock(due)
		company := pickCompany(random, len(companies), flood, stress.FloodShare)
		a := arrival{
			at: at, company: int32(company),
			// Employees take turns, because an employee does not punch twice within seconds.
			employee: turns[company] % employeeCount(&companies[company], l.Rate*max(1, stress.Overload)),
			entry:    int32(home(company)), repeat: none, behind: none,
			kind: pickKind(random), source: pickSource(random), note: pickNote(random),
		}
		turns[company]++
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

// newClock returns a function that returns the time at which so many punches have become due. Its argument must rise.
func newClock(l *Load, stress *Stress) func(due float64) time.Duration {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	switch {
	case stress.Overload > 0:
		return func(due float64) time.Duration {
			lead := l.Rate * l.Duration.Seconds()
			peak := l.Rate * stress.Overload * stress.For.Seconds()
			switch {
			case due < lead:
				return seconds(due / l.Rate)
			case due < lead+peak:
				return l.Duration + seconds((due-lead)/(l.Rate*stress.Overload))
			default:
				return l.Duration + stress.For + seconds((due-lead-peak)/l.Rate)
			}
		}
	case l.Steady:
		return func(due float64) time.Duration { return seconds(due / l.Rate) }
	default:
		t := 0.0
		return func(due float64) time.Duration {
			t = invert(l.Rate, l.Duration.Seconds(), t, due)
			return seconds(t)
		}
	}
}

// pickCompany draws a company, all alike, except that the company flood has its share of all punches.
func pickCompany(random *rand.Rand, n, flood int, share float64) int {
	if flood < 0 {
		return random.IntN(n)
	}
	if n == 1 || random.Float64() < share {
		return flood
	}
	return int(other(random, n, int32(flood)))
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

// other draws a number below n other than the given one. With n = 1 it returns that number.
func other(random *rand.Rand, n int, not int32) int32 {
	if n == 1 {
		return not
	}
	r := random.Int32N(int32(n) - 1)
	if r >= not {
		r++
	}
	return r
}

var kinds = []punch.Kind{punch.In, punch.Auto, punch.Out, punch.BreakStart, punch.BreakEnd}

// pickKind draws a kind. In the morning most employees arrive, and the night shift leaves.
func pickKind(random *rand.Rand) uint8 {
	x := random.Float64()
	for i, share := range []float64{0.80, 0.90, 0.96, 0.98} {
		if x < share {
			return uint8(i)
		}
	}
	return uint8(len(kinds) - 1)
}

// sources are the recorders. The first one stands for a punch without a source.
var sources = []string{"", "gate-1", "gate-2", "gate-3", "gate-4", "gate-5", "gate-6", "gate-7", "gate-8"}

func pickSource(random *rand.Rand) uint8 {
	if random.Float64() < 0.2 {
		return 0
	}
	return uint8(1 + random.IntN(len(sources)-1))
}

// notes contain what faulty code breaks on: quotes, accents, wide characters, a line break. The first one stands for a
// punch without a note.
var notes = []string{
	"", "forgot the badge", "späte Bahn, Gleis 3", "电梯故障，迟到五分钟", "said \"5 minutes\"; it's 10", "first line\nsecond line",
}

func pickNote(random *rand.Rand) uint8 {
	if random.Float64() < 0.95 {
		return 0
	}
	return uint8(1 + random.IntN(len(notes)-1))
}
