package admission

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
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
	// Target is the wait that means overload when it stands for Interval. A shorter burst passes. Under overload the valve
	// keeps the wait near Target: without any wait, the processor would be idle from time to time.
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
// The standing wait is CoDel's signal (RFC 8289): the least wait of an interval, which a burst does not raise. Then two
// rules act together. The wait of each request refuses it at once, whatever the valve has learned so far. The limit
// follows the wait more slowly, and shares the capacity between classes and companies.
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
	limit    float64   // items a second; +Inf without overload
	refusals time.Time // the latest refusal
	tokens   float64   // items that may enter now
	least    float64   // items that may enter now however long they have waited
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

// Enter asks for n items of a company. Their request has waited until now. If they are refused, Enter returns after which
// time the caller should come again. For items that were admitted the caller must call Leave.
func (v *Valve) Enter(class Class, company string, n int, waited time.Duration) (retryAfter time.Duration, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.deps.Clock()
	if waited != Unknown {
		v.observed += waited
		v.samples++
	}
	v.tick(now)
	rate := 0.0
	if class == Interactive { // the outboxes of a company must not use up the share of its people at the gate
		rate = v.shares.arrive(company, float64(n))
	}
	if v.limit == math.Inf(1) || v.takes(class, rate, float64(n), waited) {
		v.counts[class].Admitted += uint64(n)
		v.pause.admitted += n
		return 0, true
	}
	v.counts[class].Refused += uint64(n)
	v.pause.refused += n
	v.refusals = now
	return v.pause.next(class), false
}

// Unknown is the wait of a request whose arrival was not measured.
const Unknown time.Duration = -1

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

// takes decides for n items of a company that sends at the given rate.
func (v *Valve) takes(class Class, rate, n float64, waited time.Duration) bool {
	room := v.depth()
	fair := v.shares.fair
	chance := v.chance(waited)
	taken := false
	switch class {
	case Forwarded: // it has priority, and may use what comes within the next moments
		taken = v.tokens > -4*room
	case Interactive:
		if rate <= fair {
			// A company within its fair share is refused only if even such companies are too many.
			taken = v.tokens > -room && waited < longWait*v.cfg.Target
		} else {
			taken = v.tokens >= 1 && rand.Float64()*rate < fair*chance
		}
	case Stored:
		taken = v.tokens > room/2 && chance == 1
	case Read:
		taken = v.tokens > room*3/4 && chance == 1
	}
	switch {
	case taken:
		v.tokens -= n
	case v.reserved[class] >= 1:
		v.reserved[class] -= n
	case class <= Interactive && v.least >= n:
		v.tokens -= n
	default:
		return false
	}
	v.least = max(0, v.least-n)
	return true
}

// longWait is the wait, in targets, after which no punch enters: the work would be for a caller that may have left.
const longWait = 4

// chance is the probability with which a request may enter after its wait. It falls from 1 at the target to 0 at twice
// the target. A wait that grows thus ends itself, before the limit has followed.
func (v *Valve) chance(waited time.Duration) float64 {
	return min(1, max(0, 2-waited.Seconds()/v.cfg.Target.Seconds()))
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
	switch {
	case took > v.cfg.Interval: // hardly any work came: the earlier waits say nothing about now
		clear(v.waits[:])
	case v.samples == 0: // only ends of work moved the valve: they say nothing about requests that wait
		wait = max(wait, v.waits[windows-1])
	}
	if v.samples > 0 {
		wait = max(wait, v.observed/time.Duration(v.samples))
		v.observed, v.samples = 0, 0
	}
	copy(v.waits[:], v.waits[1:])
	v.waits[windows-1] = wait
	seconds := min(took, time.Second).Seconds()
	rate := float64(v.done) / took.Seconds()
	v.smoothServed(took)
	v.adjust(now, wait, rate, seconds)
	v.shares.tick(took, v.limit)
	v.pause.tick(seconds, v.limit == math.Inf(1))
	if v.limit == math.Inf(1) {
		return
	}
	v.tokens = min(v.depth(), v.tokens+v.limit*seconds)
	v.least = min(max(1, v.cfg.MinRate*v.cfg.Interval.Seconds()), v.least+v.cfg.MinRate*seconds)
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

// adjust follows the wait. Each request's own wait damps the loop, see chance. The limit may therefore move by its own
// amount in a second and does not swing.
func (v *Valve) adjust(now time.Time, wait time.Duration, rate, seconds float64) {
	if v.limit == math.Inf(1) {
		if slices.Min(v.waits[:]) > v.cfg.Target {
			v.limit = max(v.cfg.MinRate, v.served, rate)
			v.tokens, v.refusals = 0, now
		}
		return
	}
	if now.Sub(v.refusals) > unlimitedAfter {
		v.limit = math.Inf(1)
		return
	}
	away := 1 - wait.Seconds()/v.cfg.Target.Seconds() // 1 without a wait, 0 at the target, negative above
	growth := max(-2, away)
	if growth > 0 && v.limit < 0.9*v.best {
		growth *= 8 // the node served more lately: a stall has ended
	}
	v.limit = max(v.cfg.MinRate, v.limit*math.Exp(growth*seconds))
	// Without this bound the limit would grow out of sight while little arrives, and be late in the next rush.
	v.limit = min(v.limit, max(v.cfg.MinRate, 2*v.best))
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
