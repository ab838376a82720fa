package admission

import (
	"hash/maphash"
	"math"
	"slices"
	"time"
)

const (
	rows  = 4
	slots = 256
	// memory is how long an arrival counts. A shorter memory would take a company's single burst for a flood, and a
	// longer one would refuse a company long after its flood.
	memory = time.Second
)

// shares estimates the arrival rate of each company, and the rate up to which a company is served in full while the
// limit is shared: max-min fairness, as in core-stateless fair queueing (Stoica, Shenker, Zhang: SIGCOMM 1998).
//
// The rates are in a count-min sketch (Cormode, Muthukrishnan 2005): each company has one slot in each of four rows, and
// its rate is the least of the four. Its memory is 8 kB, whatever callers claim to be. With 16 flooding companies,
// all four slots of another one are flooded with a probability of 0.0015%.
type shares struct {
	seeds [rows]maphash.Seed
	rates [rows][slots]float64 // items a second
	fair  float64              // items a second; +Inf without a limit

	total       float64
	largest     string
	largestRate float64
}

func newShares() shares {
	s := shares{fair: math.Inf(1)}
	for i := range s.seeds {
		s.seeds[i] = maphash.MakeSeed()
	}
	return s
}

// arrive counts n items and returns the company's rate.
func (s *shares) arrive(company string, n float64) float64 {
	n /= memory.Seconds()
	rate := math.Inf(1)
	for i := range rows {
		slot := &s.rates[i][maphash.String(s.seeds[i], company)%slots]
		*slot += n
		rate = min(rate, *slot)
	}
	s.total += n
	if rate > s.largestRate || company == s.largest {
		s.largest, s.largestRate = company, rate
	}
	return rate
}

// tick lets the rates fade and shares the limit.
func (s *shares) tick(took time.Duration, limit float64) {
	fade := math.Exp(-took.Seconds() / memory.Seconds())
	for i := range s.rates {
		for j := range s.rates[i] {
			s.rates[i][j] *= fade
		}
	}
	s.total *= fade
	s.largestRate *= fade
	s.fair = math.Inf(1)
	if limit != math.Inf(1) {
		s.fair = fairRate(s.rates[0], limit)
	}
}

// fairRate returns the rate f for which the slots together send the limit when each of them sends at most f.
func fairRate(rates [slots]float64, limit float64) float64 {
	slices.Sort(rates[:])
	for i, rate := range rates {
		if share := limit / float64(slots-i); rate > share {
			return share
		}
		limit -= rate
	}
	return math.Inf(1)
}

func (s *shares) largestShare() (company string, share float64) {
	if s.total < 1 { // less than one item in the last second
		return "", 0
	}
	return s.largest, min(1, s.largestRate/s.total)
}
