package admission

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// station is a processor of fixed speed behind a valve, on a clock of its own. Requests wait in a FIFO. The valve is
// asked when a request's turn has come, as in a node. A refusal costs a part of a punch. A caller that leaves after its
// patience costs nothing.
type station struct {
	valve    *Valve
	now      time.Time
	speed    float64 // items a second; the test may change it
	refusal  float64 // its cost in items
	patience time.Duration
	queue    []arrived
	credit   float64

	offered, useful, refused map[string]int
	entered                  map[Class]int
	pauses                   []time.Duration
	times                    []time.Duration // from arrival to the end, of useful items
	refusalTimes             []time.Duration
}

type arrived struct {
	at      time.Time
	company string
	class   Class
}

func newStation(t *testing.T, speed float64) *station {
	t.Helper()
	s := &station{now: time.Unix(0, 0), speed: speed, refusal: 0.05, patience: 2 * time.Second}
	var err error
	s.valve, err = New(Config{Target: 50 * time.Millisecond, Interval: 100 * time.Millisecond, MinRate: 50},
		Deps{Wait: func() time.Duration { return 0 }, Clock: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	s.forget()
	return s
}

func (s *station) forget() {
	s.offered, s.useful, s.refused = make(map[string]int), make(map[string]int), make(map[string]int)
	s.entered = make(map[Class]int)
	s.pauses, s.times, s.refusalTimes = nil, nil, nil
}

func (s *station) arrive(company string) { s.arriveAs(company, Interactive) }

func (s *station) arriveAs(company string, class Class) {
	s.offered[company]++
	s.queue = append(s.queue, arrived{s.now, company, class})
}

// serve handles the request whose turn it is and returns its cost.
func (s *station) serve() float64 {
	first := s.queue[0]
	s.queue = s.queue[1:]
	took := s.now.Sub(first.at)
	if took > s.patience {
		return 0
	}
	pause, ok := s.valve.Enter(first.class, first.company, 1, took)
	if !ok {
		s.refused[first.company]++
		s.pauses = append(s.pauses, pause)
		s.refusalTimes = append(s.refusalTimes, took)
		return s.refusal
	}
	s.useful[first.company]++
	s.entered[first.class]++
	s.times = append(s.times, took)
	s.valve.Leave(1)
	return 1
}

// run lets companies send at the given rates for a time, in steps of a millisecond.
func (s *station) run(rnd *rand.Rand, length time.Duration, rates map[string]float64) {
	for end := s.now.Add(length); s.now.Before(end); s.now = s.now.Add(time.Millisecond) {
		for company, rate := range rates {
			for range poisson(rnd, rate/1000) {
				s.arrive(company)
			}
		}
		for s.credit = min(s.credit+s.speed/1000, max(1, s.speed/1000)); s.credit > 0 && len(s.queue) > 0; {
			s.credit -= s.serve()
		}
	}
}

// percentile99 returns the 99th percentile.
func percentile99(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(times))[len(times)*99/100]
}

func poisson(rnd *rand.Rand, mean float64) (n int) {
	for p := rnd.Float64(); p > math.Exp(-mean); n++ {
		p *= rnd.Float64()
	}
	return n
}

func sum(counts map[string]int) (total int) {
	for _, n := range counts {
		total += n
	}
	return total
}

// TestGoodputUnderOverload offers more than a station can carry, at once and for a while. Without the valve every caller
// would leave. The bound of the goodput is what the refusals leave of the processor.
func TestGoodputUnderOverload(t *testing.T) {
	for _, times := range []float64{1.5, 2, 3, 5, 10} {
		t.Run(fmt.Sprintf("%g times", times), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			s := newStation(t, 2000)
			s.run(rnd, time.Second, map[string]float64{"acme": 1000})
			s.forget()
			s.run(rnd, 10*time.Second, map[string]float64{"acme": times * 2000})
			goodput, possible := float64(sum(s.useful))/10/2000, (1-s.refusal*times)/(1-s.refusal)
			accepted, refused := percentile99(s.times), percentile99(s.refusalTimes)
			t.Logf("goodput %.3f of %.3f, p99 %s, refusals p99 %s", goodput, possible, accepted, refused)
			if goodput < 0.97*possible {
				t.Errorf("goodput is %.3f of the capacity, want %.3f", goodput, 0.97*possible)
			}
			if accepted > 400*time.Millisecond || refused > 400*time.Millisecond { // the first moments have the longest waits
				t.Errorf("p99 is %s, of refusals %s", accepted, refused)
			}
		})
	}
}

// TestCallersWithoutManners come again at once when they are refused, and so they are ten times as many as can be served.
func TestCallersWithoutManners(t *testing.T) {
	s := newStation(t, 2000)
	rnd := rand.New(rand.NewPCG(13, 14))
	again := 0
	for ms := range 10_000 {
		if ms == 2000 {
			s.forget()
		}
		for range poisson(rnd, 4) + again {
			s.arrive("acme")
		}
		before := len(s.pauses)
		s.run(rnd, time.Millisecond, nil)
		again = min(len(s.pauses)-before, 16) // of the callers that are refused, as many as the generator has
	}
	goodput := float64(sum(s.useful)) / 8 / 2000
	refusals := float64(sum(s.refused)) / 8 / 2000
	t.Logf("goodput %.3f beside %.1f refusals for each", goodput, refusals)
	if possible := 1 - refusals*s.refusal; goodput < 0.95*possible {
		t.Errorf("goodput is %.3f, want %.3f", goodput, 0.95*possible)
	}
}

// TestSixNodesOnOneProcessor lets six valves share a processor. Each of them must keep its part, and together they must
// not swing.
func TestSixNodesOnOneProcessor(t *testing.T) {
	rnd := rand.New(rand.NewPCG(15, 16))
	stations := make([]*station, 6)
	for i := range stations {
		stations[i] = newStation(t, 0)
	}
	var served [100]int // by 100 ms
	for ms := range 12_000 {
		if ms == 2000 {
			for _, s := range stations {
				s.forget()
			}
		}
		turn := stations[ms/3%len(stations)] // the kernel gives each process some milliseconds
		for _, s := range stations {
			s.speed = 0
			if s == turn {
				s.speed = 2000
			}
			before := sum(s.useful)
			s.run(rnd, time.Millisecond, map[string]float64{"acme": 1000}) // 6,000 together
			if ms >= 2000 {
				served[(ms-2000)/100] += sum(s.useful) - before
			}
		}
	}
	total, least := 0, math.MaxInt
	for _, n := range served {
		total, least = total+n, min(least, n)
	}
	possible := (1 - stations[0].refusal*3) / (1 - stations[0].refusal)
	t.Logf("goodput %.3f of %.3f; the worst 100 ms %d of 200", float64(total)/10/2000, possible, least)
	if goodput := float64(total) / 10 / 2000; goodput < 0.95*possible {
		t.Errorf("goodput is %.3f of the capacity, want %.3f", goodput, 0.95*possible)
	}
	if least < 100 {
		t.Errorf("in some 100 ms only %d items were served, of 200: the valves swing together", least)
	}
	for i, s := range stations {
		if n := sum(s.useful); n < total/6/3 {
			t.Errorf("node %d served %d of %d", i, n, total)
		}
	}
}

// TestABurstIsNoOverload sends a whole shift at once. It is over before it stands, so no punch is refused.
func TestABurstIsNoOverload(t *testing.T) {
	s := newStation(t, 2000)
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 5 {
		for range 150 { // 75 ms of work
			s.arrive("acme")
		}
		s.run(rnd, 500*time.Millisecond, map[string]float64{"acme": 200})
	}
	if n := sum(s.refused); n != 0 {
		t.Errorf("%d punches of bursts were refused", n)
	}
}

// TestOneCompanyFloods lets one company send four fifths of three times the capacity.
func TestOneCompanyFloods(t *testing.T) {
	rates := map[string]float64{"flood": 4800}
	for i := range 120 {
		rates[fmt.Sprintf("shop-%d", i)] = 10 // together 1,200 of 2,000
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	s := newStation(t, 2000)
	s.run(rnd, 3*time.Second, rates)
	s.forget()
	s.run(rnd, 10*time.Second, rates)
	flood := s.useful["flood"]
	others := sum(s.useful) - flood
	offered := sum(s.offered) - s.offered["flood"]
	t.Logf("others: %d of %d, the flood: %d", others, offered, flood)
	if share := float64(others) / float64(offered); share < 0.95 {
		t.Errorf("the others got %.3f of what they asked for, want 0.95", share)
	}
	rest := 2000 - 1200 - s.refusal*float64(sum(s.refused))/10
	if got := float64(flood) / 10; got < 0.9*rest {
		t.Errorf("the flooding company got %.0f/s of the %.0f/s that nobody else needs", got, rest)
	}
	if name, share := s.valve.State().Largest, s.valve.State().LargestShare; name != "flood" || share < 0.7 || share > 0.9 {
		t.Errorf("the largest company is %q with %.2f, want flood with 0.8", name, share)
	}
}

// TestClasses offers every class more than its share.
func TestClasses(t *testing.T) {
	s := newStation(t, 2000)
	rnd := rand.New(rand.NewPCG(7, 8))
	offer := func(length time.Duration) {
		for end := s.now.Add(length); s.now.Before(end); s.run(rnd, time.Millisecond, nil) {
			for class, rate := range map[Class]float64{Forwarded: 500, Interactive: 4000, Stored: 4000, Read: 4000} {
				for range poisson(rnd, rate/1000) {
					s.arriveAs("acme", class)
				}
			}
		}
	}
	offer(3 * time.Second)
	s.forget()
	offer(10 * time.Second)
	entered := s.entered
	total := float64(entered[Forwarded] + entered[Interactive] + entered[Stored] + entered[Read])
	t.Logf("entered: %v", entered)
	if share := float64(entered[Forwarded]) / 5000; share < 0.9 {
		t.Errorf("%.2f of the forwarded punches entered; another node has done half of their work", share)
	}
	if entered[Interactive] < 2*entered[Stored] || entered[Stored] < entered[Read] {
		t.Errorf("the classes do not have their order: %v", entered)
	}
	for class, least := range map[Class]float64{Stored: 0.05, Read: 0.02} {
		if share := float64(entered[class]) / total; share < least {
			t.Errorf("%s got %.3f of everything, want at least %.2f whatever the others do", class, share, least)
		}
	}
}

// TestAStallEnds stops the processor for some seconds, as a frozen machine does, and lets it go on.
func TestAStallEnds(t *testing.T) {
	s := newStation(t, 2000)
	rnd := rand.New(rand.NewPCG(9, 10))
	rates := map[string]float64{"acme": 1500}
	s.run(rnd, 3*time.Second, rates)
	s.speed = 0
	s.run(rnd, 5*time.Second, rates)
	s.speed = 2000
	s.run(rnd, 2*time.Second, rates)
	s.forget()
	s.run(rnd, 3*time.Second, rates)
	if n := sum(s.refused); n > sum(s.offered)/100 {
		t.Errorf("%d of %d are refused two seconds after the stall has ended", n, sum(s.offered))
	}
	if s.valve.State().Limit != 0 {
		s.run(rnd, 2*unlimitedAfter, rates)
	}
	if limit := s.valve.State().Limit; limit != 0 {
		t.Errorf("the limit is still %.0f", limit)
	}
}

// TestRetryAfterGrowsWithTheBacklog has callers come again when they were told to. Their number would otherwise grow until
// refusing alone takes the whole node.
func TestRetryAfterGrowsWithTheBacklog(t *testing.T) {
	s := newStation(t, 2000)
	rnd := rand.New(rand.NewPCG(11, 12))
	again := make(map[int64]int) // by millisecond
	requests, worst := 0, 0
	for ms := range int64(60_000) {
		n := poisson(rnd, 6) + again[ms] // 6,000 new callers a second
		delete(again, ms)
		requests += n
		for range n {
			s.arrive("acme")
		}
		before := len(s.pauses)
		s.run(rnd, time.Millisecond, nil)
		for _, pause := range s.pauses[before:] {
			if pause < time.Second || pause > 90*time.Second {
				t.Fatalf("Retry-After of %s", pause)
			}
			again[ms+pause.Milliseconds()]++
		}
		if ms%1000 == 999 {
			worst, requests = max(worst, requests), 0
		}
	}
	t.Logf("%d requests in the worst second, %d callers waiting", worst, len(again))
	if worst > 20_000 {
		t.Errorf("%d requests in one second: three times as many callers as are new come again", worst)
	}
}

func TestFairRate(t *testing.T) {
	var rates [slots]float64
	for i := range rates {
		rates[i] = 1
	}
	if f := fairRate(rates, 1000); f != math.Inf(1) {
		t.Errorf("all fit, and the fair rate is %g", f)
	}
	if f := fairRate(rates, 128); f != 0.5 {
		t.Errorf("half fits, and the fair rate is %g", f)
	}
	rates[7] = 1000
	if f := fairRate(rates, 300); math.Abs(f-45) > 1e-9 {
		t.Errorf("255 send 1 and one sends 1,000, and of 300 the fair rate is %g, want 45", f)
	}
}

func TestNewNamesTheWrongField(t *testing.T) {
	deps := Deps{Wait: func() time.Duration { return 0 }, Clock: time.Now}
	for want, cfg := range map[string]Config{
		"Target": {Interval: 1, MinRate: 1}, "Interval": {Target: 1, MinRate: 1}, "MinRate": {Target: 1, Interval: 1},
	} {
		if _, err := New(cfg, deps); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", want, err)
		}
	}
}

// TestSchedulingWait keeps every processor busy and lets goroutines wait for one.
func TestSchedulingWait(t *testing.T) {
	wait := SchedulingWait()
	wait()
	var workers sync.WaitGroup
	for range 64 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for start := time.Now(); time.Since(start) < time.Millisecond; {
			}
			runtime.Gosched()
			for start := time.Now(); time.Since(start) < time.Millisecond; {
			}
		})
	}
	workers.Wait()
	if got := wait(); got < time.Millisecond {
		t.Errorf("64 goroutines of 2 ms for each processor waited %s", got)
	}
}

func BenchmarkEnter(b *testing.B) {
	valve, err := New(Config{Target: 50 * time.Millisecond, Interval: 100 * time.Millisecond, MinRate: 50},
		Deps{Wait: SchedulingWait(), Clock: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, ok := valve.Enter(Interactive, "acme", 1, Unknown); ok {
			valve.Leave(1)
		}
	}
}
