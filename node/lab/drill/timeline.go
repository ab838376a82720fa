package drill

import (
	"time"

	"github.com/punchclock/punchclock/node/lab/load"
)

// Second is one second of a drill. A punch counts in Acknowledged or Failed when its answer came. It counts in
// latencies and Retries when it was due.
type Second struct {
	At    int          `json:"at"` // seconds after the begin
	Homes []HomeSecond `json:"homes"`
}

// HomeSecond is a home's part of a second. Latencies are zero if no punch was due.
type HomeSecond struct {
	Home         string        `json:"home"`
	Acknowledged int           `json:"acknowledged"`
	Failed       int           `json:"failed"`
	Retries      int           `json:"retries"`
	P50          time.Duration `json:"p50_ns"`
	P99          time.Duration `json:"p99_ns"`
}

// timeline sorts all punches into the seconds after begin.
func timeline(all []load.Outcome, homes []string, begin time.Time) []Second {
	second := func(t time.Time) int { return max(0, int(t.Sub(begin)/time.Second)) }
	last := 0
	for _, o := range all {
		last = max(last, second(o.Settled))
	}
	seconds := make([]Second, last+1)
	for at := range seconds {
		seconds[at] = Second{At: at, Homes: make([]HomeSecond, len(homes))}
	}
	for i, home := range homes {
		own := only(all, func(o *load.Outcome) bool { return o.Home == home })
		due := make([][]load.Outcome, len(seconds))
		for _, o := range own {
			at := second(o.Settled)
			if o.Err == nil {
				seconds[at].Homes[i].Acknowledged++
			} else {
				seconds[at].Homes[i].Failed++
			}
			due[second(o.Due)] = append(due[second(o.Due)], o)
		}
		for at, punches := range due {
			f, h := figuresOf(punches), &seconds[at].Homes[i]
			h.Home, h.Retries, h.P50, h.P99 = home, f.Retries, f.P50, f.P99
		}
	}
	return seconds
}
