package load

import (
	"math"
	"slices"
	"time"
)

// Second is one second of a run. It counts the presses that were due in it.
type Second struct {
	At           int           `json:"at_s"`
	Sent         int           `json:"sent"`
	Acknowledged int           `json:"acknowledged"`
	Refused      map[int]int   `json:"refused,omitempty"` // by HTTP status
	GaveUp       int           `json:"gave_up"`
	NoAnswer     int           `json:"no_answer"`
	P50          time.Duration `json:"p50_ns"` // of the acknowledged presses, like P99
	P99          time.Duration `json:"p99_ns"`
	RefusalP99   time.Duration `json:"refusal_p99_ns"`
	Late         time.Duration `json:"late_ns"` // of the generator, at the 99th percentile
	// CPU is the processors in use in this second, 1 for a whole one.
	CPU Shares `json:"cpu"`
}

// PhaseResult is the part of a run before, during or after the overload. The counts are per second.
type PhaseResult struct {
	Name         string        `json:"name"`
	Sent         float64       `json:"sent"`
	Acknowledged float64       `json:"acknowledged"`
	Refused      float64       `json:"refused"`
	GaveUp       float64       `json:"gave_up"`
	NoAnswer     float64       `json:"no_answer"`
	P50          time.Duration `json:"p50_ns"`
	P99          time.Duration `json:"p99_ns"`
	RefusalP99   time.Duration `json:"refusal_p99_ns"`
	CPU          Shares        `json:"cpu"`
}

// Recovery says how long after the end of the overload the service was as fast as before.
type Recovery struct {
	Recovered bool          `json:"recovered"`
	After     time.Duration `json:"after_ns"` // in whole seconds
}

// recoveredP99 is the p99 of a service that works normally.
const recoveredP99 = 250 * time.Millisecond

// series collects the presses of each second. Exact latencies of 5 million presses take 60 MB.
type series struct{ list []*secondTally }

type secondTally struct {
	sent, gaveUp, noAnswer int
	refused                map[int]int
	acknowledged           []uint32 // latencies in microseconds, like the next two
	refusals               []uint32
	late                   []uint32
}

func micros(d time.Duration) uint32 {
	return uint32(min(max(d, 0).Microseconds(), math.MaxUint32))
}

// at returns the second of a time after the begin. A run may take longer than its plan.
func (s *series) at(t time.Duration) *secondTally {
	i := int(max(t, 0) / time.Second)
	for len(s.list) <= i {
		s.list = append(s.list, &secondTally{refused: make(map[int]int)})
	}
	return s.list[i]
}

func (s *secondTally) refuse(status int, took time.Duration) {
	s.refused[status]++
	s.refusals = append(s.refusals, micros(took))
}

// percentile sorts values. It returns the smallest value that the given share of them does not exceed.
func percentile(values []uint32, percent int) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return time.Duration(values[(len(values)*percent+99)/100-1]) * time.Microsecond
}

func (s *series) seconds(used []usage) []Second {
	list := make([]Second, len(s.list))
	for i, t := range s.list {
		list[i] = Second{
			At: i, Sent: t.sent, Acknowledged: len(t.acknowledged), Refused: t.refused, GaveUp: t.gaveUp, NoAnswer: t.noAnswer,
			P50: percentile(t.acknowledged, 50), P99: percentile(t.acknowledged, 99),
			RefusalP99: percentile(t.refusals, 99), Late: percentile(t.late, 99),
			CPU: sharesBetween(used, time.Duration(i)*time.Second, time.Duration(i+1)*time.Second),
		}
	}
	return list
}

// overload returns the phases of a run with an overload between two quiet times of the length lead, and the recovery.
func (s *series) overload(lead, during time.Duration, used []usage) ([]PhaseResult, *Recovery) {
	// A second that the overload shares with a quiet time counts with the overload.
	begin, end := int(lead/time.Second), int((lead+during+time.Second-1)/time.Second)
	last := int((2*lead + during) / time.Second) // presses due later are repetitions without new arrivals
	begin, end, last = min(begin, len(s.list)), min(end, len(s.list)), min(last, len(s.list))
	phases := []PhaseResult{
		phase("before", s.list[:begin], 0, used),
		phase("overload", s.list[begin:end], begin, used),
		phase("after", s.list[end:max(end, last)], end, used),
	}
	good := last
	for good > end && s.list[good-1].recovered() {
		good--
	}
	return phases, &Recovery{Recovered: good < last, After: time.Duration(good-end) * time.Second}
}

func (s *secondTally) recovered() bool {
	return s.sent == 0 || len(s.acknowledged) > 0 && percentile(s.acknowledged, 99) < recoveredP99
}

func phase(name string, list []*secondTally, from int, used []usage) PhaseResult {
	p := PhaseResult{Name: name}
	if len(list) == 0 {
		return p
	}
	var acknowledged, refusals []uint32
	n := float64(len(list))
	for _, s := range list {
		acknowledged, refusals = append(acknowledged, s.acknowledged...), append(refusals, s.refusals...)
		p.Sent += float64(s.sent) / n
		p.GaveUp += float64(s.gaveUp) / n
		p.NoAnswer += float64(s.noAnswer) / n
	}
	p.Acknowledged, p.Refused = float64(len(acknowledged))/n, float64(len(refusals))/n
	p.P50, p.P99, p.RefusalP99 = percentile(acknowledged, 50), percentile(acknowledged, 99), percentile(refusals, 99)
	p.CPU = sharesBetween(used, time.Duration(from)*time.Second, time.Duration(from+len(list))*time.Second)
	return p
}
