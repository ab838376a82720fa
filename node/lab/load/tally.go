package load

import (
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// slowest is the longest latency that the histogram tells apart. It is longer than any client's time limit.
const slowest = 10 * time.Minute

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, slowest.Microseconds(), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d, time.Microsecond), slowest).Microseconds()) // min and max keep the value in range
}

func quantile(h *hdrhistogram.Histogram, percent float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(percent)) * time.Microsecond
}

func latencies(h *hdrhistogram.Histogram) Latencies {
	return Latencies{P50: quantile(h, 50), P99: quantile(h, 99), Max: time.Duration(h.Max()) * time.Microsecond}
}

// press is one press of a caller and what became of it. A reference client's call is one press with all its retries.
type press struct {
	company     int
	due         time.Time
	sent        time.Time // when the generator began to send
	ended       time.Time
	acknowledge bool
	gaveUp      bool // the caller lost patience
	status      int  // of a refusal; 0 if there was no answer
}

// settled is the end of a punch.
type settled struct {
	arrival  *arrival
	due      time.Time // of the first press
	ended    time.Time
	attempts int
	crossed  bool // the receipt came through a region that is not the home
	err      error
}

// tally counts during a run.
type tally struct {
	begin     time.Time
	companies []cluster.Company
	flood     string

	mu      sync.Mutex // guards the fields below
	total   Result
	latency *hdrhistogram.Histogram
	late    *hdrhistogram.Histogram
	regions []*hdrhistogram.Histogram // in the order of total.Regions
	pressed pressTally
	groups  [2]groupTally // the company of --flood, and the others
	series  series
}

// pressTally counts presses.
type pressTally struct {
	Presses
	acknowledged *hdrhistogram.Histogram
	refused      *hdrhistogram.Histogram
}

type groupTally struct {
	Counts
	acknowledged *hdrhistogram.Histogram
}

func newTally(cfg *Config) *tally {
	t := &tally{begin: time.Now(), companies: cfg.Companies, flood: cfg.Stress.Flood, latency: newHistogram(), late: newHistogram()}
	t.total.Codes = make(map[string]int)
	t.total.Client = cfg.Stress.Client
	for _, r := range cfg.Entries {
		t.total.Regions = append(t.total.Regions, RegionResult{Name: r.Region})
		t.regions = append(t.regions, newHistogram())
	}
	t.pressed = pressTally{acknowledged: newHistogram(), refused: newHistogram()}
	t.pressed.Refused = make(map[int]int)
	for i := range t.groups {
		t.groups[i].acknowledged = newHistogram()
	}
	return t
}

// group returns the group of a company.
func (t *tally) group(company int) *groupTally {
	if t.companies[company].ID == t.flood {
		return &t.groups[0]
	}
	return &t.groups[1]
}

// drop counts a punch that was due and could not be sent.
func (t *tally) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.Dropped++
}

// failLocally counts a punch that this machine could not send.
func (t *tally) failLocally() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.LocalErrors++
}

// press counts one press.
func (t *tally) press(p *press) {
	late, took := p.sent.Sub(p.due), p.ended.Sub(p.due)
	t.mu.Lock()
	defer t.mu.Unlock()
	second := t.series.at(p.due.Sub(t.begin))
	second.sent++
	second.late = append(second.late, micros(late))
	record(t.late, late)
	t.total.LateMax = max(t.total.LateMax, late)
	t.pressed.Sent++
	switch {
	case p.acknowledge:
		t.pressed.Acknowledged++
		second.acknowledged = append(second.acknowledged, micros(took))
		record(t.pressed.acknowledged, took)
		record(t.group(p.company).acknowledged, took)
	case p.gaveUp:
		t.pressed.GaveUp++
		second.gaveUp++
	case p.status == 0:
		t.pressed.NoAnswer++
		second.noAnswer++
	default:
		t.pressed.Refused[p.status]++
		second.refuse(p.status, took)
		record(t.pressed.refused, took)
	}
}

// settled counts a punch.
func (t *tally) settled(s *settled) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry := s.arrival.entry
	region := &t.total.Regions[entry]
	for _, c := range []*Counts{&region.Counts, &t.total.Counts, &t.group(int(s.arrival.company)).Counts} {
		c.count(s)
	}
	if s.err != nil {
		t.total.Codes[codeOf(s.err)]++
	}
	record(t.latency, s.ended.Sub(s.due))
	record(t.regions[entry], s.ended.Sub(s.due))
}

func (c *Counts) count(s *settled) {
	c.Sent++
	c.Retries += max(0, s.attempts-1)
	switch {
	case s.err == nil:
		c.Acknowledged++
		if s.crossed {
			c.Crossed++
		}
	case client.IsFinal(s.err):
		c.Refused++
	default:
		c.Unresolved++
	}
}

// attempts returns how many requests a punch took.
func attempts(receipt client.Receipt, err error) int {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Attempts
	}
	return receipt.Attempts
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return string(e.Code)
	}
	return "journal"
}

// repeated counts a punch that was sent again after its receipt. The answer must be the same receipt.
func (t *tally) repeated(first, again punch.Receipt, err error) {
	first.Replayed, again.Replayed = true, again.Replayed || err != nil
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.Repeated++
	if err != nil || first != again {
		t.total.RepeatsWrong++
	}
}

// progress returns how far the run has come.
func (t *tally) progress(cfg *Config, planned int, done bool) Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Progress{
		Planned: planned, Settled: t.total.Sent, Acknowledged: t.total.Acknowledged, Dropped: t.total.Dropped,
		Elapsed: time.Since(t.begin), Duration: cfg.Load.arrivals(&cfg.Stress), Done: done,
	}
}

// result returns the counts of a run that took so long.
func (t *tally) result(cfg *Config, took time.Duration, used []usage) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.total
	r.Took = took
	r.Rate = float64(r.Acknowledged) / took.Seconds()
	r.Latencies = latencies(t.latency)
	r.Late = quantile(t.late, 99)
	for i := range r.Regions {
		r.Regions[i].Latencies = latencies(t.regions[i])
	}
	r.Presses = t.pressed.Presses
	r.Presses.AcknowledgedIn = latencies(t.pressed.acknowledged)
	r.Presses.RefusedIn = latencies(t.pressed.refused)
	r.Series = t.series.seconds(used)
	r.CPU = cpuOf(used, r.Acknowledged)
	if t.flood != "" {
		r.Flood, r.Others = t.groups[0].result(), t.groups[1].result()
	}
	if cfg.Stress.Overload > 0 {
		r.Phases, r.Recovery = t.series.overload(cfg.Load.Duration, cfg.Stress.For, used)
	}
	return r
}

func (g *groupTally) result() *GroupResult {
	return &GroupResult{Counts: g.Counts, Latencies: latencies(g.acknowledged)}
}

// statusOf returns the HTTP status of a refusal, or 0.
func statusOf(err error) int {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Status
	}
	return 0
}
