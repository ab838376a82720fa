package admission

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Class is the priority of a request. Each class has a share of the capacity that no other class can take.
type Class int

// The classes, highest first.
const (
	Forwarded   Class = iota // an entry node has admitted the punch and has done half of its work
	Interactive              // a person waits for the answer
	Stored                   // a device empties its outbox; no person waits
	Read                     // punches that exist already
	classes
)

func (c Class) String() string { return [...]string{"forwarded", "interactive", "stored", "read"}[c] }

// Config says what overload is.
type Config struct {
	// Target is the wait that means overload when it stands for Interval. A shorter burst passes.
	Target, Interval time.Duration
	// MinRate is the rate, in items a second, that is admitted in any overload. Without it a node whose limit had fallen
	// to zero would never see that the cause has gone.
	MinRate float64
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Target <= 0:
		return fmt.Errorf("admission: Target must be more than 0, is %s", c.Target)
	case c.Interval <= 0:
		return fmt.Errorf("admission: Interval must be more than 0, is %s", c.Interval)
	case c.MinRate <= 0:
		return fmt.Errorf("admission: MinRate must be more than 0, is %g", c.MinRate)
	default:
		return nil
	}
}

// Deps is what a valve measures.
type Deps struct {
	// Wait returns how long work waits now. The valve calls it four times in an Interval, and never at once.
	Wait  func() time.Duration
	Clock func() time.Time
}

// Valve limits the rate at which work enters while work that has entered waits too long. Without a standing wait it
// admits everything. It is safe for concurrent use.
//
// The standing wait is CoDel's signal (RFC 8289): the least wait of an interval, which a burst does not raise. The limit
// follows the rate at which work is finished: a little less when the wait stands, a little more when it does not. In a
// stall, work is not finished and the limit falls to MinRate.
//
// A valve has no goroutine and no timer. The requests themselves move it, so an idle node does not wake up for it.
type Valve struct {
	cfg  Config
	deps Deps

	mu       sync.Mutex // guards the fields below
	window   time.Time  // when the present window began
	waits    [windows]time.Duration
	served   float64       // items finished a second, smoothed
	best     float64       // the greatest served rate of the last time
	done     int           // items finished in this window
	observed time.Duration // the sum of the waits that were observed in this window
	samples  int
	limit    float64 // items a second; +Inf without overload
	holdOff  time.Time
	refusals time.Time // the latest refusal
	tokens   float64   // items that may enter now
	conns    float64   // connections that may enter now
	reserved [classes]float64
	shares   shares
	pause    pause
	counts   [classes]Count
}

// Count is what became of the items of a class since the start.
type Count struct{ Admitted, Refused uint64 }

const (
	// windows is how many times the wait is measured in an interval.
	windows = 4
	// unlimitedAfter is how long a limit stays that refuses nothing. A rush comes in waves, and to learn the limit
	// again costs a standing wait.
	unlimitedAfter = 2 * time.Second
)

// reserves are the shares of the limit that a class can always use, whatever the classes above it do. An outbox that
// never empties would be lost pay as well.
var reserves = [classes]float64{Stored: 0.10, Read: 0.05}

// New makes a valve.
func New(cfg Config, deps Deps) (*Valve, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Wait == nil || deps.Clock == nil {
		return nil, errors.New("admission: Wait and Clock are required")
	}
	return &Valve{cfg: cfg, deps: deps, limit: math.Inf(1), window: deps.Clock(), shares: newShares(), pause: newPause()}, nil
}

// Enter asks for n items of a company. If they are refused, it returns after which time the caller should come again.
// For items that were admitted the caller must call Leave.
func (v *Valve) Enter(class Class, company string, n int) (retryAfter time.Duration, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.deps.Clock()
	v.tick(now)
	rate := 0.0
	if class == Interactive { // the outboxes of a company must not use up the share of its people at the gate
		rate = v.shares.arrive(company, float64(n))
	}
	if v.limit == math.Inf(1) || v.takes(class, rate, float64(n)) {
		v.counts[class].Admitted += uint64(n)
		v.pause.admitted += n
		return 0, true
	}
	v.counts[class].Refused += uint64(n)
	v.pause.refused += n
	v.refusals = now
	return v.pause.next(class), false
}

// connShare is how many new connections are taken for each item that may enter. Most new connections bring one request,
// and some of these are refused.
const connShare = 1.25

// EnterConnection asks for a connection whose caller is not known yet.
func (v *Valve) EnterConnection() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tick(v.deps.Clock())
	if v.limit == math.Inf(1) {
		return true
	}
	if v.conns < 1 {
		return false
	}
	v.conns--
	return true
}

// Leave says that n items are finished, whatever became of them.
func (v *Valve) Leave(n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done += n
	v.tick(v.deps.Clock())
}

// Observe adds the wait of one request to what the valve measures itself.
func (v *Valve) Observe(wait time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.observed += wait
	v.samples++
}

// takes decides for n items of a company that sends at the given rate.
func (v *Valve) takes(class Class, rate, n float64) bool {
	room := v.depth()
	fair := v.shares.fair
	taken := false
	switch class {
	case Forwarded: // it has priority, and may use what comes within the next moments
		taken = v.tokens > -4*room
	case Interactive:
		// A company within its fair share is refused only if even such companies are too many.
		taken = rate <= fair && v.tokens > -room || v.tokens >= 1 && rand.Float64()*rate < fair
	case Stored:
		taken = v.tokens > room/2
	case Read:
		taken = v.tokens > room*3/4
	}
	if taken {
		v.tokens -= n
		return true
	}
	if v.reserved[class] >= 1 {
		v.reserved[class] -= n
		return true
	}
	return false
}

// depth is how many items may enter at once.
func (v *Valve) depth() float64 { return max(1, v.limit*v.cfg.Interval.Seconds()) }

// tick ends the window when its time is over.
func (v *Valve) tick(now time.Time) {
	took := now.Sub(v.window)
	if took < v.cfg.Interval/windows {
		return
	}
	v.window = now
	wait := v.deps.Wait()
	if v.samples > 0 {
		wait = max(wait, v.observed/time.Duration(v.samples))
		v.observed, v.samples = 0, 0
	}
	if took > v.cfg.Interval { // hardly any work came: the earlier waits say nothing about now
		clear(v.waits[:])
	}
	copy(v.waits[:], v.waits[1:])
	v.waits[windows-1] = wait
	seconds := min(took, time.Second).Seconds()
	v.smoothServed(took)
	v.adjust(now, wait, seconds)
	v.shares.tick(took, v.limit)
	v.pause.tick(seconds, v.limit == math.Inf(1))
	if v.limit == math.Inf(1) {
		return
	}
	v.tokens = min(v.depth(), v.tokens+v.limit*seconds)
	v.conns = min(v.depth(), v.conns+connShare*v.limit*seconds)
	for class, share := range reserves {
		if share > 0 { // a batch of an outbox may be larger than the share of one interval
			v.reserved[class] = min(max(1, share*v.depth()), v.reserved[class]+share*v.limit*seconds)
		}
	}
}

// smoothServed follows the rate of finished items over five intervals: the items of one write finish together.
func (v *Valve) smoothServed(took time.Duration) {
	weight := 1 - math.Exp(-took.Seconds()/(5*v.cfg.Interval.Seconds()))
	v.served += (float64(v.done)/took.Seconds() - v.served) * weight
	v.done = 0
	v.best = max(v.served, v.best*math.Exp(-took.Seconds()/bestFor))
}

// bestFor is how many seconds the best rate is remembered: longer than a failover of the database.
const bestFor = 30.0

func (v *Valve) adjust(now time.Time, wait time.Duration, seconds float64) {
	standing := v.waits[0]
	for _, w := range v.waits[1:] {
		standing = min(standing, w)
	}
	switch {
	case standing > v.cfg.Target:
		if now.Before(v.holdOff) { // the last cut has not had its time to act
			return
		}
		v.holdOff = now.Add(2 * v.cfg.Interval)
		// A tenth less drains a short queue without leaving the processor idle. A long queue would be served to callers
		// that have left, so it has to go faster.
		share := 0.9
		if standing > 4*v.cfg.Target {
			share = 0.6
		}
		v.limit = max(v.cfg.MinRate, share*min(v.limit, v.served))
	case v.limit == math.Inf(1):
	case now.Sub(v.refusals) > unlimitedAfter:
		v.limit = math.Inf(1)
	case wait < v.cfg.Target/2 && !now.Before(v.holdOff):
		// Below a rate that the node has served lately, a stall has ended and the limit may double in a tenth of a second.
		// Above it, the capacity is not known, so the limit grows by a tenth in that time.
		growth := 1.0
		if v.limit < v.best {
			growth = 7
		}
		v.limit *= math.Exp(growth * seconds)
	}
}

// State is what an operator sees of a valve.
type State struct {
	Limit        float64 // items a second; 0 when nothing is refused
	Served       float64 // items a second
	Wait         float64 // seconds
	Largest      string  // the company that sends most; empty when nothing arrives
	LargestShare float64 // of all arrivals of the last second, 0 to 1
	RefusedShare float64 // of the items of the last moments, 0 to 1
	RetryAfter   float64 // seconds, before jitter
	Counts       [classes]Count
}

// State returns the present state.
func (v *Valve) State() State {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tick(v.deps.Clock()) // an idle valve has had no request that moved it
	s := State{
		Served: v.served, Wait: v.waits[windows-1].Seconds(), RefusedShare: v.pause.share, RetryAfter: v.pause.seconds,
		Counts: v.counts,
	}
	if v.limit != math.Inf(1) {
		s.Limit = v.limit
	}
	s.Largest, s.LargestShare = v.shares.largestShare()
	return s
}
