package load

import (
	"errors"
	"fmt"
	"math"
	"time"
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
	// At 500 punches a second, 16,000 wait after 32 s without any answer. A crashed database region hands over in less.
	// With the plain client each takes a connection, and a process often has 20,000 files at most.
	MaxInFlight int `help:"Most punches under way at the same time. Beyond it punches are dropped, and the run is void." default:"16000"`
	// Three attempts of 15 s, which is a node's own limit.
	TotalTimeout time.Duration `help:"How long a punch is retried before it counts as unresolved." default:"45s"`
	// The client's default is for slow mobile links.
	AttemptTimeout time.Duration `help:"When a device gives up on one endpoint and tries the next; the client's default when 0." default:"0s"`
}

// maxPlanned limits the memory of a plan: 5 million arrivals take 200 MB.
const maxPlanned = 5_000_000

func (l *Load) validate(stress *Stress) error {
	switch {
	case !(l.Rate > 0) || math.IsInf(l.Rate, 0):
		return fmt.Errorf("--rate: must be more than 0, is %g", l.Rate)
	case l.Duration < time.Second:
		return fmt.Errorf("--duration: must be at least 1s, is %s", l.Duration)
	case l.expected(stress) > maxPlanned:
		return fmt.Errorf("--rate: %g over %s are more than %d punches", l.Rate, l.arrivals(stress), maxPlanned)
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
func (l *Load) expected(stress *Stress) float64 {
	switch {
	case stress.Overload > 0:
		return l.Rate * (2*l.Duration.Seconds() + stress.Overload*stress.For.Seconds())
	case l.Steady:
		return l.Rate * l.Duration.Seconds()
	default:
		return l.Rate * l.Duration.Seconds() / 2
	}
}

// arrivals returns how long punches arrive.
func (l *Load) arrivals(stress *Stress) time.Duration {
	if stress.Overload > 0 {
		return 2*l.Duration + stress.For
	}
	return l.Duration
}

// The clients of a load.
const (
	// Reference is the client that devices should use. It retries, and asks other endpoints and regions.
	Reference = "reference"
	// Plain is an HTTP/1.1 client without retries. It costs the generator far less CPU, so it is the one to measure with.
	Plain = "plain"
)

// Stress is what a load does besides, as flags: callers without patience or manners, one company that floods, and an
// overload. The zero value is a load of reference clients without any of it.
type Stress struct {
	Client string `help:"plain: HTTP/1.1 with keep-alive and no retries, for measurements. reference: the client for devices." enum:"plain,reference" default:"plain"`
	// Callers on a phone or at a gate look away after about 2 s.
	Impatience time.Duration `help:"A caller gives up after this time, closes the connection, and soon presses again with the same id; never when 0." default:"0s"`
	Presses    int           `help:"How often a caller presses at most, with --impatience or --stampede." default:"4"`
	Stampede   bool          `help:"Callers ignore Retry-After and press again at once."`
	Reconnect  bool          `help:"A caller presses again on a new connection, and in the next region after a connection that broke. Needs --impatience or --stampede."`
	Flood      string        `help:"This company sends most of the punches. The result reports the others apart." placeholder:"COMPANY"`
	FloodShare float64       `help:"Share of the punches that the company of --flood sends." default:"0.8"`
	Overload   float64       `help:"Multiply the rate by this for the time of --for. Before and after it, the load is steady for --duration each; 0 is no overload." default:"0"`
	For        time.Duration `help:"How long the overload lasts." default:"60s"`
}

func (s *Stress) validate() error {
	switch plain := s.Client == Plain; {
	case s.Client != "" && s.Client != Reference && !plain:
		return fmt.Errorf("--client: must be %s or %s, is %q", Plain, Reference, s.Client)
	case s.Impatience < 0:
		return fmt.Errorf("--impatience: must not be negative, is %s", s.Impatience)
	case (s.Impatience > 0 || s.Stampede) && !plain:
		return fmt.Errorf("--impatience and --stampede need --client=%s", Plain)
	case s.Reconnect && s.Impatience == 0 && !s.Stampede:
		return errors.New("--reconnect: needs --impatience or --stampede, or no caller presses again")
	case (s.Impatience > 0 || s.Stampede) && s.Presses < 1:
		return fmt.Errorf("--presses: must be at least 1, is %d", s.Presses)
	case s.Flood != "" && !(s.FloodShare >= 0 && s.FloodShare <= 1):
		return fmt.Errorf("--flood-share: must be 0 to 1, is %g", s.FloodShare)
	case !(s.Overload >= 0) || math.IsInf(s.Overload, 0):
		return fmt.Errorf("--overload: must be a positive number, or 0, is %g", s.Overload)
	case s.Overload > 0 && s.For < time.Second:
		return fmt.Errorf("--for: must be at least 1s, is %s", s.For)
	default:
		return nil
	}
}
