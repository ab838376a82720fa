package load

import (
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/punchclock/punchclock/node/client"
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

// tally counts during a run.
type tally struct {
	begin time.Time

	mu      sync.Mutex // guards the fields below
	total   Result
	latency *hdrhistogram.Histogram
	late    *hdrhistogram.Histogram
	regions []*hdrhistogram.Histogram // in the order of total.Regions
}

func newTally(cfg *Config) *tally {
	t := &tally{begin: time.Now(), latency: newHistogram(), late: newHistogram()}
	t.total.Codes = make(map[string]int)
	for _, r := range cfg.Entries {
		t.total.Regions = append(t.total.Regions, RegionResult{Name: r.Region})
		t.regions = append(t.regions, newHistogram())
	}
	return t
}

// drop counts a punch that was due and could not be sent.
func (t *tally) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.Dropped++
}

// settled counts a punch that was due at intended, begun at began, and answered or given up at ended.
func (t *tally) settled(entry int, intended, began, ended time.Time, receipt client.Receipt, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	region := &t.total.Regions[entry]
	region.count(receipt, err)
	t.total.count(receipt, err)
	if err != nil {
		t.total.Codes[codeOf(err)]++
	}
	record(t.late, began.Sub(intended))
	record(t.latency, ended.Sub(intended))
	record(t.regions[entry], ended.Sub(intended))
}

func (c *Counts) count(receipt client.Receipt, err error) {
	c.Sent++
	c.Retries += max(0, attempts(receipt, err)-1)
	switch {
	case err == nil:
		c.Acknowledged++
		if receipt.EntryRegion != receipt.HomeRegion {
			c.Crossed++
		}
	case client.IsFinal(err):
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
		Elapsed: time.Since(t.begin), Duration: cfg.Load.Duration, Done: done,
	}
}

// result returns the counts of a run that took so long.
func (t *tally) result(took time.Duration) Result {
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
	return r
}
