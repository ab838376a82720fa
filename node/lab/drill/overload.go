package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/load"
)

// Overload is a part of a drill in which more punches come than nodes can carry. Its callers have no manners. They give up
// after two seconds, ignore Retry-After, press again with the same id, and do so on a new connection.
type Overload struct {
	Name string `json:"name"`
	// Capacity is the most punches per second that the same nodes acknowledged to the same generator in this drill.
	Capacity float64 `json:"capacity"`
	Factor   float64 `json:"factor"` // punches offered, relative to the capacity
	// Goodput is the punches per second that were acknowledged while their callers waited, relative to the capacity.
	Goodput float64 `json:"goodput"`
	// P99 belongs to receipts and RefusalP99 to refusals.
	P99        time.Duration `json:"p99_ns"`
	RefusalP99 time.Duration `json:"refusal_p99_ns"`
	// Recovered is the time from the end of the overload until the p99 of each second stayed below 250 ms. It is nil if
	// that was not seen.
	Recovered *time.Duration `json:"recovered_ns,omitempty"`
	Presses   load.Presses   `json:"presses"`
	Dropped   int            `json:"dropped"` // punches that were due and not sent
	// Late is how long after its due time a press began, at the 99th percentile. It shows a generator that is too slow.
	Late time.Duration `json:"late_ns"`
}

func (o *Overload) String() string {
	recovered := "it did not recover"
	if o.Recovered != nil {
		recovered = "it recovered within " + brief(*o.Recovered)
	}
	refused := 0
	for _, n := range o.Presses.Refused {
		refused += n
	}
	return fmt.Sprintf("%s: %.2g times the capacity of %.0f punches/s, of which %.0f%% were acknowledged (p99 %s); %s. "+
		"The callers pressed %d times: %d acknowledged, %d refused (p99 %s), %d without an answer, %d given up. Presses began %s late at p99",
		o.Name, o.Factor, o.Capacity, 100*o.Goodput, brief(o.P99), recovered,
		o.Presses.Sent, o.Presses.Acknowledged, refused, brief(o.RefusalP99), o.Presses.NoAnswer, o.Presses.GaveUp, brief(o.Late))
}

const (
	// impatience is how long a caller at a gate looks at the screen.
	impatience = 2 * time.Second
	// presses is how often a caller presses for one punch. With one more, the generator is slower than the nodes.
	presses = 3
	// overloadLead is the time before and after an overload, with half of the capacity. It is longer than the bound of the
	// recovery, so that the recovery can be seen to last.
	overloadLead, leadShare = 9 * time.Second, 0.5
)

// crowd sends punches through some regions to measure nodes.
type crowd struct {
	target    *target
	entries   []cluster.Entry
	companies []cluster.Company
}

// send sends a load and returns its result. stress chooses the manners.
func (c *crowd) send(ctx context.Context, rate float64, duration time.Duration, stress load.Stress) (load.Result, error) {
	stress.Client, stress.Impatience, stress.Presses = load.Plain, impatience, presses
	return load.Run(ctx, load.Config{
		Load: load.Load{
			Rate: rate, Duration: duration, Steady: true, CrossRegion: 0.25, Seed: uint64(time.Now().UnixNano()), TotalTimeout: plainTimeout,
			MaxInFlight: crowdInFlight,
		},
		Stress: stress, Entries: c.entries, Companies: c.companies, Journal: c.target.ledger,
	})
}

// crowdInFlight leaves files for other connections where a process may have 20,000.
const crowdInFlight = 18_000

const (
	firstRate    = 200.0 // CockroachDB on one processor carries about four times as many
	capacityStep = 6 * time.Second
	// unsettled is the part of a step that does not count. A node finds its limit within it.
	unsettled = 2 * time.Second
	lastRate  = 50_000.0 // no machine with one generator comes so far
)

// capacity doubles the rate until callers with manners must press again. Then it raises the last good rate in smaller
// steps. The capacity is the most punches that were acknowledged per second in any step.
func (c *crowd) capacity(ctx context.Context) (best float64, err error) {
	factor := 2.0
	for rate := firstRate; rate < lastRate; rate *= factor {
		r, err := c.send(ctx, rate, capacityStep, load.Stress{})
		if err != nil {
			return 0, err
		}
		got := acknowledged(r.Series, int(unsettled/time.Second), int(capacityStep/time.Second))
		best = max(best, got)
		carried := float64(r.Acknowledged) >= 0.99*float64(r.Sent) && float64(r.Presses.Sent) <= 1.01*float64(r.Sent) && r.Dropped == 0
		c.target.say("%.0f punches/s: %.0f acknowledged, p99 %s, carried: %t", rate, got, brief(r.Presses.AcknowledgedIn.P99), carried)
		if carried {
			continue
		}
		if err := c.calm(ctx, best); err != nil {
			return 0, err
		}
		if factor < 2 {
			break
		}
		rate, factor = rate/factor, 1.25
	}
	if best == 0 {
		return 0, errors.New("no punch was acknowledged")
	}
	return best, nil
}

// acknowledged returns the punches per second from one second of a series until another.
func acknowledged(series []load.Second, from, to int) float64 {
	to = min(to, len(series))
	if from >= to {
		return 0
	}
	n := 0
	for _, s := range series[from:to] {
		n += s.Acknowledged
	}
	return float64(n) / float64(to-from)
}

// calm returns when a load of a tenth of the capacity is answered as quickly as usual.
func (c *crowd) calm(ctx context.Context, capacity float64) error {
	ctx, cancel := context.WithTimeout(ctx, calmTimeout)
	defer cancel()
	for {
		r, err := c.send(ctx, max(1, capacity/10), time.Second, load.Stress{})
		if err != nil {
			return fmt.Errorf("the nodes did not become quick again: %w", err)
		}
		if r.Presses.AcknowledgedIn.P99 < usualP99 && r.Acknowledged == r.Sent {
			return nil
		}
	}
}

const (
	// calmTimeout is far above the bound of the recovery: a slow recovery must be measured, and not end the drill.
	calmTimeout = time.Minute
	usualP99    = 250 * time.Millisecond
)

// stampede sends more punches than the capacity for some time. The parameter from is where the measurement of the
// goodput begins, as a time after the begin of the overload.
func (c *crowd) stampede(ctx context.Context, name string, capacity float64, long, from time.Duration) error {
	r, err := c.send(ctx, leadShare*capacity, overloadLead, load.Stress{
		Stampede: true, Reconnect: true, Overload: overload / leadShare, For: long,
	})
	if err != nil {
		return err
	}
	o := Overload{
		Name: name, Capacity: capacity, Factor: overload, Presses: r.Presses, Dropped: r.Dropped, Late: r.Late,
		Goodput: acknowledged(r.Series, int((overloadLead+from)/time.Second), int((overloadLead+long)/time.Second)) / capacity,
	}
	if i := slices.IndexFunc(r.Phases, func(p load.PhaseResult) bool { return p.Name == "overload" }); i >= 0 {
		o.P99, o.RefusalP99 = r.Phases[i].P99, r.Phases[i].RefusalP99
	}
	if r.Recovery != nil && r.Recovery.Recovered {
		o.Recovered = &r.Recovery.After
	}
	c.target.overloads = append(c.target.overloads, o)
	c.target.say("%s", &o)
	return nil
}
