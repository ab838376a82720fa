package batcher

import "time"

// pace estimates how fast the writers take items. Only writes that succeeded count.
type pace struct {
	write time.Duration // of one write, smoothed
	items float64       // in one write, smoothed
	last  time.Time     // when the latest write succeeded
}

const (
	// ordinaryWrite always counts in full: so long takes a write between two regions when nothing is wrong.
	ordinaryWrite = 200 * time.Millisecond
	// freshFor is how long the pace says something about now, or four writes if they are slower. In the hand-over of a
	// lease no write succeeds for seconds, and then all are quick again. Punches wait for its end.
	freshFor = 250 * time.Millisecond
)

// wrote smooths with a weight of 1/8, as TCP smooths round trips (RFC 6298). A slow write counts for at most four times
// the estimate. A few writes that outlasted a failover therefore do not inflate it, while lasting slowness does.
func (p *pace) wrote(now time.Time, took time.Duration, items int) {
	if p.last.IsZero() {
		p.write, p.items = took, float64(items)
	}
	p.write += (min(took, max(4*p.write, ordinaryWrite)) - p.write) / 8
	p.items += (float64(items) - p.items) / 8
	p.last = now
}

func (p *pace) fresh(now time.Time) bool { return now.Sub(p.last) < max(freshFor, 4*p.write) }

// wait estimates how long an item waits that has others before it. With less than a batch before it, it is in one of the
// next writes, however long they take.
func (p *pace) wait(before, writers int) time.Duration {
	if float64(before) < max(p.items, leastBatch) {
		return 0
	}
	return time.Duration(float64(p.write) * float64(before) / (p.items * float64(writers)))
}

// leastBatch keeps an estimate from writes of single punches from refusing the next ones: larger batches take hardly
// longer.
const leastBatch = 64
