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

// Presses counts presses. An impatient caller presses several times for one punch. Every time counts from the moment at
// which that press was due. Sent is the sum of the other counts.
type Presses struct {
	Sent           int         `json:"sent"`
	Acknowledged   int         `json:"acknowledged"`
	Refused        map[int]int `json:"refused,omitempty"` // by HTTP status
	GaveUp         int         `json:"gave_up"`           // the caller lost patience
	NoAnswer       int         `json:"no_answer"`         // the connection broke or could not be made
	AcknowledgedIn Latencies   `json:"acknowledged_in"`
	RefusedIn      Latencies   `json:"refused_in"`
}

// Result is the result of a run.
type Result struct {
	Client string `json:"client,omitempty"`
	Counts
	Latencies
	// Dropped punches were due and never sent, because MaxInFlight others were under way. With any of them the figures
	// belong to a smaller load than the configured one.
	Dropped int `json:"dropped"`
	// LocalErrors are presses that this machine could not send, such as for lack of file descriptors or ports.
	LocalErrors int `json:"local_errors"`
	// Repeated punches were sent again under the same id. For RepeatsWrong of them the answer was not a replay of the
	// first receipt.
	Repeated     int `json:"repeated"`
	RepeatsWrong int `json:"repeats_wrong"`
	// Late is how long after its due time a press was begun, at the 99th percentile. It is the generator's own share of
	// the latencies. LateMax is the longest, and Waited is how long goroutines waited for a processor, at the 99th
	// percentile. Late does not show that an answer was read late, but Waited does.
	Late    time.Duration `json:"late_ns"`
	LateMax time.Duration `json:"late_max_ns"`
	Waited  time.Duration `json:"waited_ns"`
	// Took is the time from the begin to the last answer. Rate is the acknowledged punches per second of it. With
	// impatient callers it is the goodput: a punch is acknowledged only while its caller waits.
	Took    time.Duration  `json:"took_ns"`
	Rate    float64        `json:"rate"`
	Codes   map[string]int `json:"codes,omitempty"` // of the errors
	Regions []RegionResult `json:"regions"`
	Presses Presses        `json:"presses"`
	CPU     CPU            `json:"cpu"`
	// Flood is the company of --flood, and Others are all other companies. Latencies are those of acknowledged presses.
	Flood  *GroupResult `json:"flood,omitempty"`
	Others *GroupResult `json:"others,omitempty"`
	// Phases and Recovery belong to --overload.
	Phases   []PhaseResult `json:"phases,omitempty"`
	Recovery *Recovery     `json:"recovery,omitempty"`
	Series   []Second      `json:"series,omitempty"`
}

// RegionResult is the result of the punches that entered in one region.
type RegionResult struct {
	Name string `json:"name"`
	Counts
	Latencies
}

// GroupResult is the result of some companies.
type GroupResult struct {
	Counts
	Latencies
}

// ErrVoid is returned for a run whose generator could not keep up.
var ErrVoid = errors.New("the generator could not keep up: punches were due and not sent")

// lateBound is a tenth of the shortest latency that a measurement is judged by, 250 ms. A generator that is later adds
// its own delay to the result.
const lateBound = 25 * time.Millisecond

// Void returns ErrVoid if the figures are not those of the configured load. A run with reference clients is not void
// because it was late: it shows that answers are true, and not how fast a node is.
func (r *Result) Void() error {
	switch plain := r.Client == Plain; {
	case r.Dropped > 0:
		return fmt.Errorf("%w (%d of %d)", ErrVoid, r.Dropped, r.Dropped+r.Sent)
	case r.LocalErrors > 0:
		return fmt.Errorf("%w: %d presses lacked a file descriptor, a port or memory", ErrVoid, r.LocalErrors)
	case plain && r.Late > lateBound:
		return fmt.Errorf("%w in time: begun %s late at p99, the bound is %s", ErrVoid, brief(r.Late), lateBound)
	case plain && r.Waited > lateBound:
		return fmt.Errorf("%w in time: goroutines waited %s for a processor at p99, the bound is %s", ErrVoid, brief(r.Waited), lateBound)
	default:
		return nil
	}
}

// rows writes lines of text. A Builder never fails.
type rows struct{ strings.Builder }

func (s *rows) row(format string, args ...any) { _, _ = fmt.Fprintf(s, format+"\n", args...) }

func (s *rows) counts(name string, c *Counts, l *Latencies) {
	s.row("%-12s %8d %8d %8d %8d %8d %8d %10s %10s %10s", name, c.Sent, c.Acknowledged, c.Refused, c.Unresolved, c.Crossed, c.Retries,
		brief(l.P50), brief(l.P99), brief(l.Max))
}

// String returns the result as an aligned table.
func (r *Result) String() string {
	var s rows
	s.row("%-12s %8s %8s %8s %8s %8s %8s %10s %10s %10s",
		"entry", "sent", "acked", "refused", "open", "crossed", "retries", "p50", "p99", "max")
	for i := range r.Regions {
		s.counts(r.Regions[i].Name, &r.Regions[i].Counts, &r.Regions[i].Latencies)
	}
	s.counts("all", &r.Counts, &r.Latencies)
	s.row("%.0f punches/s over %s; %d sent again, %d of them without the same receipt; begun %s late at p99, %s at most",
		r.Rate, r.Took.Round(100*time.Millisecond), r.Repeated, r.RepeatsWrong, brief(r.Late), brief(r.LateMax))
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		s.row("  %d × %s", r.Codes[code], code)
	}
	if r.Client == Plain {
		r.presses(&s)
	}
	r.stress(&s)
	if r.CPU.Seconds > 0 {
		s.row("CPU: %s", &r.CPU)
	}
	if err := r.Void(); err != nil {
		s.row("VOID: %s", err)
	}
	return s.String()
}

func (r *Result) presses(s *rows) {
	p := &r.Presses
	s.row("presses: %d sent, %d acknowledged (p50 %s, p99 %s, max %s), %d given up, %d without an answer",
		p.Sent, p.Acknowledged, brief(p.AcknowledgedIn.P50), brief(p.AcknowledgedIn.P99), brief(p.AcknowledgedIn.Max), p.GaveUp, p.NoAnswer)
	for _, status := range slices.Sorted(maps.Keys(p.Refused)) {
		s.row("  %d refused with status %d", p.Refused[status], status)
	}
	if len(p.Refused) > 0 {
		s.row("  refusals: p50 %s, p99 %s, max %s", brief(p.RefusedIn.P50), brief(p.RefusedIn.P99), brief(p.RefusedIn.Max))
	}
}

func (r *Result) stress(s *rows) {
	if r.Flood != nil {
		s.counts("flood", &r.Flood.Counts, &r.Flood.Latencies)
		s.counts("others", &r.Others.Counts, &r.Others.Latencies)
	}
	for i := range r.Phases {
		p := &r.Phases[i]
		s.row("%-8s %8.0f presses/s, %8.0f acknowledged/s (p99 %s), %8.0f refused/s (p99 %s), %8.0f given up/s",
			p.Name, p.Sent, p.Acknowledged, brief(p.P99), p.Refused, brief(p.RefusalP99), p.GaveUp)
	}
	switch {
	case r.Recovery == nil:
	case r.Recovery.Recovered:
		s.row("recovered %s after the end of the overload: from then on p99 was below %s", brief(r.Recovery.After), recoveredP99)
	default:
		s.row("not recovered: p99 was not below %s at the end", recoveredP99)
	}
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
