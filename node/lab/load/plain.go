package load

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// fleet sends a load with plain clients: HTTP/1.1 with keep-alive, without retries. One goroutine sends everything that
// is due, and each connection has one goroutine that reads answers. A punch on an open connection thus costs no
// goroutine, no timer and no decoding. The generator takes little of the processor that it shares with nodes.
type fleet struct {
	*generator
	regions  []plainRegion
	patience time.Duration // of a caller with one press
	presses  int           // of a caller at most
	dials    context.Context
	noDials  context.CancelFunc

	running  sync.WaitGroup // of all connections
	outcomes chan outcome   // for the journal
	open     atomic.Int64   // punches that are not settled
	underWay atomic.Int64   // attempts without an answer
	wake     chan struct{}  // tells run that open or agenda has changed
	waiting  queue          // used by run alone

	mu     sync.Mutex // guards the fields below
	agenda agenda
	ended  bool // no press is added to agenda
	closed bool // no connection is added to conns
	conns  map[*conn]struct{}
}

// plainRegion is the endpoints of a region. Callers take them in turn, as behind DNS or a load balancer.
type plainRegion struct {
	targets []*target
	next    int
}

// call is one punch.
type call struct {
	arrival  *arrival
	claim    punch.Request
	body     []byte
	due      time.Time // of the first press
	presses  int
	requests atomic.Int32
	seq      uint64 // of the journal, which has one line for all presses, as for all retries of a reference client
	// first is the receipt that this call must get again. It is nil unless this is the planned repeat of a punch.
	first *punch.Receipt
}

// attempt is one press of a call.
type attempt struct {
	call   *call
	region int
	target *target
	due    time.Time
	sent   atomic.Int64         // nanoseconds after the begin of the run; 0 until then
	over   atomic.Bool          // the answer or the end of patience sets it, and then settles the attempt
	conn   atomic.Pointer[conn] // nil until there is a connection
	resent bool                 // used by the connection that holds the attempt
}

func newFleet(g *generator) (*fleet, error) {
	stress := &g.cfg.Stress
	f := &fleet{
		generator: g, presses: 1, patience: cmp.Or(stress.Impatience, g.cfg.Load.TotalTimeout),
		wake: make(chan struct{}, 1), conns: make(map[*conn]struct{}), outcomes: make(chan outcome, outcomesAhead),
	}
	if stress.Impatience > 0 || stress.Stampede {
		f.presses = stress.Presses
	}
	for _, e := range g.cfg.Entries {
		targets, err := newTargets(f, e)
		if err != nil {
			return nil, err
		}
		f.regions = append(f.regions, plainRegion{targets: targets})
	}
	return f, nil
}

func newTargets(f *fleet, e cluster.Entry) (targets []*target, err error) {
	for _, endpoint := range e.Endpoints {
		t, err := newTarget(f, endpoint)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// send runs the load and returns after the last answer.
func (f *fleet) send(ctx context.Context) {
	f.dials, f.noDials = context.WithCancel(ctx)
	var journal sync.WaitGroup
	journal.Go(f.keepOutcomes)
	f.run(ctx)
	f.closeAll()
	f.running.Wait()
	close(f.outcomes)
	journal.Wait()
}

// outcome is the end of a call, for the journal.
type outcome struct {
	seq     uint64
	receipt punch.Receipt
	err     error
}

// outcomesAhead covers a moment in which the journal's file is slow.
const outcomesAhead = 1024

// keepOutcomes writes the outcomes of all connections. If each connection wrote its own, thousands of them would queue for
// the journal, and run would queue behind them with its next press.
func (f *fleet) keepOutcomes() {
	for o := range f.outcomes {
		if lost := f.cfg.Journal.Settle(o.seq, o.receipt, o.err); lost != nil {
			f.fail(lost)
		}
	}
}

// run sends every press when it is due. After the last arrival it waits for the answers under way. A press that a caller
// planned for later stays unsent: the run has an end.
func (f *fleet) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	arrivals := f.arrivals
	stop := f.cfg.Stop
	for {
		now := time.Now()
		f.loseCallers(now)
		for len(arrivals) > 0 && f.tally.begin.Add(arrivals[0].at).Before(now) {
			f.begin(&arrivals[0])
			arrivals = arrivals[1:]
		}
		f.pressAgain(now)
		if len(arrivals) == 0 {
			f.end(nil)
			if f.open.Load() == 0 {
				return
			}
		}
		timer.Reset(f.untilNext(arrivals))
		select {
		case <-timer.C:
		case <-f.wake:
		case <-stop:
			arrivals, stop = nil, nil
		case <-ctx.Done():
			f.end(context.Cause(ctx))
			f.closeAll()
			return // each connection that ends settles its attempt
		}
	}
}

// idleWait bounds a sleep without anything due.
const idleWait = time.Second

func (f *fleet) untilNext(arrivals []arrival) time.Duration {
	next := time.Now().Add(idleWait)
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if len(arrivals) > 0 {
		earlier(f.tally.begin.Add(arrivals[0].at))
	}
	if a := f.waiting.oldest(); a != nil {
		earlier(a.due.Add(f.patience))
	}
	f.mu.Lock()
	if len(f.agenda) > 0 {
		earlier(f.agenda[0].at)
	}
	f.mu.Unlock()
	return time.Until(next)
}

// loseCallers lets the callers give up whose patience has ended.
func (f *fleet) loseCallers(now time.Time) {
	for {
		a := f.waiting.oldest()
		if a == nil || now.Before(a.due.Add(f.patience)) {
			return
		}
		if a.over.CompareAndSwap(false, true) {
			if c := a.conn.Load(); c != nil {
				c.close()
			}
			f.finish(a, &answer{gaveUp: true})
		}
	}
}

// begin sends the first press of an arrival.
func (f *fleet) begin(a *arrival) {
	if f.underWay.Load() >= int64(f.cfg.Load.MaxInFlight) {
		f.tally.drop()
		return
	}
	due := f.tally.begin.Add(a.at)
	c := &call{arrival: a, due: due, claim: a.request(f.cfg.Companies[a.company].ID, due)}
	body, err := requestOf(&c.claim).JSON()
	if err != nil {
		f.fail(err) // a plan that JSON cannot carry is a fault of this package
		return
	}
	c.body = body
	f.open.Add(1)
	f.press(c, int(a.entry), due)
}

// pressAgain sends the presses of the agenda that are due.
func (f *fleet) pressAgain(now time.Time) {
	for {
		f.mu.Lock()
		if len(f.agenda) == 0 || f.agenda[0].at.After(now) {
			f.mu.Unlock()
			return
		}
		s := heap.Pop(&f.agenda).(scheduled)
		f.mu.Unlock()
		f.press(s.call, s.region, s.at)
	}
}

func (f *fleet) press(c *call, region int, due time.Time) {
	r := &f.regions[region]
	a := &attempt{call: c, region: region, target: r.targets[r.next%len(r.targets)], due: due}
	r.next++
	c.presses++
	if f.cfg.Journal != nil && c.presses == 1 {
		seq, err := f.cfg.Journal.Intend(due, f.cfg.Entries[region].Region, c.claim)
		if err != nil {
			f.fail(err)
			f.settle(c, time.Now(), punch.Receipt{}, err)
			return
		}
		c.seq = seq
	}
	f.underWay.Add(1)
	f.waiting.push(a)
	f.transmit(a)
}

// transmit sends an attempt on a connection that is idle, or on a new one.
func (f *fleet) transmit(a *attempt) {
	a.call.requests.Add(1)
	if a.call.presses == 1 || !f.cfg.Stress.Reconnect {
		for c := a.target.take(); c != nil; c = a.target.take() {
			if c.start(a) {
				return
			}
		}
	}
	f.running.Go(func() { a.target.dial(a) })
}

// finish settles an attempt whose flag over this call has set.
func (f *fleet) finish(a *attempt, o *answer) {
	now := time.Now()
	f.underWay.Add(-1)
	c := a.call
	receipt, err := f.judge(a, o)
	if c.first != nil {
		f.tally.repeated(*c.first, receipt, err)
		f.settle(c, now, receipt, err)
		return
	}
	sent := f.tally.begin.Add(time.Duration(a.sent.Load()))
	if a.sent.Load() == 0 {
		sent = now // not even begun
	}
	f.tally.press(&press{
		company: int(c.arrival.company), due: a.due, sent: sent, ended: now,
		acknowledge: err == nil, gaveUp: o.gaveUp, status: o.status,
	})
	if o.local {
		f.tally.failLocally()
	}
	if err != nil && !client.IsFinal(err) && c.presses < f.presses {
		if f.later(now.Add(f.pause(o)), c, f.nextRegion(a, o)) {
			return
		}
	}
	if err == nil && c.arrival.repeat != none {
		f.open.Add(1)
		again := &call{arrival: c.arrival, claim: c.claim, body: c.body, due: now, first: &receipt}
		if !f.later(now, again, int(c.arrival.repeat)) {
			f.open.Add(-1)
		}
	}
	f.settle(c, now, receipt, err)
}

// judge returns the receipt or the error of an answer. It decodes a receipt only if there is a use for it.
func (f *fleet) judge(a *attempt, o *answer) (punch.Receipt, error) {
	c := a.call
	failure := &client.Error{ID: c.claim.ID, Status: o.status, Code: punch.Unavailable, RetryAfter: o.retryAfter, Attempts: int(c.requests.Load())}
	switch {
	case o.gaveUp:
		failure.Err = errGaveUp
	case o.err != nil:
		failure.Err = o.err
	case o.status != http.StatusOK && o.status != http.StatusCreated:
		failure.Code, failure.Final = o.problem()
	case f.cfg.Journal == nil && f.cfg.Observe == nil && c.arrival.repeat == none:
		if o.names(c.claim.ID) {
			return punch.Receipt{}, nil
		}
		failure.Err = errOtherReceipt
	default:
		receipt, err := client.ParseReceipt(o.body, c.claim.Employee, c.claim.ID)
		if err == nil {
			return receipt, nil
		}
		failure.Err = err
	}
	return punch.Receipt{}, failure
}

var (
	errGaveUp       = errors.New("the caller gave up")
	errOtherReceipt = errors.New("the answer does not name the punch")
)

// A person who got no answer presses again after about a second.
const (
	shortestPause = 500 * time.Millisecond
	longestPause  = 1500 * time.Millisecond
)

// pause is the time until the caller presses again.
func (f *fleet) pause(o *answer) time.Duration {
	switch {
	case f.cfg.Stress.Stampede && !o.gaveUp:
		return 0
	case o.retryAfter > 0:
		return o.retryAfter
	default:
		return shortestPause + rand.N(longestPause-shortestPause)
	}
}

// nextRegion is where the caller presses again. A name in DNS leads a caller of a dead region to another one.
func (f *fleet) nextRegion(a *attempt, o *answer) int {
	switch {
	case !f.cfg.Stress.Reconnect:
		return int(a.call.arrival.entry)
	case o.err != nil && !o.gaveUp:
		return (a.region + 1) % len(f.regions)
	default:
		return a.region
	}
}

// later plans a press. It reports whether the run still takes one.
func (f *fleet) later(at time.Time, c *call, region int) bool {
	f.mu.Lock()
	ended := f.ended
	if !ended {
		heap.Push(&f.agenda, scheduled{at, c, region})
	}
	f.mu.Unlock()
	f.notify()
	return !ended
}

// end lets no call press again. The calls that had planned to stay unresolved.
func (f *fleet) end(cause error) {
	f.mu.Lock()
	rest := f.agenda
	f.agenda, f.ended = nil, true
	f.mu.Unlock()
	for _, s := range rest {
		if s.call.first != nil {
			f.close(1)
			continue
		}
		f.settle(s.call, time.Now(), punch.Receipt{}, &client.Error{
			ID: s.call.claim.ID, Code: punch.Unavailable, Attempts: int(s.call.requests.Load()), Err: errors.Join(errEnded, cause),
		})
	}
}

var errEnded = errors.New("the run ended before the caller pressed again")

// settle records the end of a call, counts its punch and closes it.
func (f *fleet) settle(c *call, now time.Time, receipt punch.Receipt, err error) {
	if f.cfg.Journal != nil && c.seq > 0 {
		f.outcomes <- outcome{c.seq, receipt, err}
	}
	if c.first == nil {
		s := &settled{
			arrival: c.arrival, due: c.due, ended: now, attempts: int(c.requests.Load()), err: err,
			crossed: err == nil && f.cfg.Entries[c.arrival.entry].Region != f.cfg.Companies[c.arrival.company].Home,
		}
		f.tally.settled(s)
		f.observe(s, receipt.ReceivedAt)
	}
	f.close(1)
}

func (f *fleet) close(n int64) {
	if f.open.Add(-n) == 0 {
		f.notify()
	}
}

func (f *fleet) notify() {
	select {
	case f.wake <- struct{}{}:
	default: // run has not seen the last one yet
	}
}
