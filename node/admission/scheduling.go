package admission

import (
	"math"
	"runtime/metrics"
	"time"
)

// SchedulingWait returns a function that measures how long this process's goroutines have waited for a processor since
// its last call: the 90th percentile. Under overload this wait is the queue of the requests that have arrived.
//
// The median would hide it: a goroutine that another one wakes up runs next, ahead of the queue, and a request has
// several such steps.
func SchedulingWait() func() time.Duration {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	var before []uint64
	return func() time.Duration {
		metrics.Read(sample)
		now := sample[0].Value.Float64Histogram()
		if before == nil {
			before = make([]uint64, len(now.Counts))
		}
		wait := percentile(now, before, 0.9)
		copy(before, now.Counts)
		return wait
	}
}

// fewest is how many goroutines must have been measured. The runtime measures every eighth; a few of them are chance.
const fewest = 8

// percentile returns the lower bound of the bucket in which the percentile of the new counts lies.
func percentile(h *metrics.Float64Histogram, before []uint64, p float64) time.Duration {
	var total uint64
	for i, count := range h.Counts {
		total += count - before[i]
	}
	if total < fewest {
		return 0
	}
	rest := uint64(math.Ceil(float64(total) * (1 - p)))
	for i := len(h.Counts) - 1; i > 0; i-- { // from the longest wait down
		if added := h.Counts[i] - before[i]; added < rest {
			rest -= added
			continue
		}
		return time.Duration(h.Buckets[i] * float64(time.Second))
	}
	return 0
}
