package load

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Latencies are times from the moment at which a punch was due until it was acknowledged, refused or given up. They
// have three significant digits.
type Latencies struct {
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

// Counts are numbers of punches. Sent is the sum of Acknowledged, Refused and Unresolved.
type Counts struct {
	Sent         int `json:"sent"`
	Acknowledged int `json:"acknowledged"`
	Refused      int `json:"refused"`    // for good
	Unresolved   int `json:"unresolved"` // a device would keep them
	Crossed      int `json:"crossed"`    // acknowledged through a region that is not the home
	Retries      int `json:"retries"`    // attempts after the first
}

// Result is the result of a run.
type Result struct {
	Counts
	Latencies
	// Dropped punches were due and never sent, because MaxInFlight others were under way. With any of them the figures
	// belong to a smaller load than the configured one.
	Dropped int `json:"dropped"`
	// Repeated punches were sent again under the same id. For RepeatsWrong of them the answer was not a replay of the
	// first receipt.
	Repeated     int `json:"repeated"`
	RepeatsWrong int `json:"repeats_wrong"`
	// Late is how long after its due time a punch was begun, at the 99th percentile. It is the generator's own share
	// of the latencies.
	Late time.Duration `json:"late_ns"`
	// Took is the time from the begin to the last answer. Rate is the acknowledged punches per second of it.
	Took    time.Duration  `json:"took_ns"`
	Rate    float64        `json:"rate"`
	Codes   map[string]int `json:"codes,omitempty"` // of the errors
	Regions []RegionResult `json:"regions"`
}

// RegionResult is the result of the punches that entered in one region.
type RegionResult struct {
	Name string `json:"name"`
	Counts
	Latencies
}

// ErrVoid is returned for a run whose generator could not keep up.
var ErrVoid = errors.New("the generator could not keep up: punches were due and not sent")

// Void returns ErrVoid if the figures are not those of the configured load.
func (r *Result) Void() error {
	if r.Dropped > 0 {
		return fmt.Errorf("%w (%d of %d)", ErrVoid, r.Dropped, r.Dropped+r.Sent)
	}
	return nil
}

// String returns the result as an aligned table.
func (r *Result) String() string {
	var s strings.Builder
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(&s, format+"\n", args...) } // a Builder never fails
	row("%-12s %8s %8s %8s %8s %8s %8s %10s %10s %10s",
		"entry", "sent", "acked", "refused", "open", "crossed", "retries", "p50", "p99", "max")
	line := func(name string, c Counts, l Latencies) {
		row("%-12s %8d %8d %8d %8d %8d %8d %10s %10s %10s", name, c.Sent, c.Acknowledged, c.Refused, c.Unresolved, c.Crossed, c.Retries,
			brief(l.P50), brief(l.P99), brief(l.Max))
	}
	for _, region := range r.Regions {
		line(region.Name, region.Counts, region.Latencies)
	}
	line("all", r.Counts, r.Latencies)
	row("%.0f punches/s over %s; %d sent again, %d of them without the same receipt; begun %s late at p99",
		r.Rate, r.Took.Round(100*time.Millisecond), r.Repeated, r.RepeatsWrong, brief(r.Late))
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		row("  %d × %s", r.Codes[code], code)
	}
	if err := r.Void(); err != nil {
		row("VOID: %s", err)
	}
	return s.String()
}

// brief formats a latency with few digits.
func brief(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
