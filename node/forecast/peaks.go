package forecast

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/zone"
)

// Peak is a time in which many punches are expected.
type Peak struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Zone    string    `json:"zone"` // of most of its punches
	Busiest time.Time `json:"busiest"`
	Punches int64     `json:"punches_per_minute"` // in the busiest minute
	Nodes   int       `json:"nodes"`
	Servers int       `json:"servers"`
}

const (
	// quarter is the grain of peaks: schedules of minutes would differ from day to day.
	quarter = 15 * time.Minute
	// leastPeak is how many punches a minute a peak has at least. Fewer need no schedule, whatever the rest of the week is.
	leastPeak = 10
)

// peaks finds the runs of quarters with at least a share of the busiest minute. A single quarter below it ends no peak.
func (c *Config) peaks(minutes []*Minute) []Peak {
	busiest := int64(0)
	for _, m := range minutes {
		busiest = max(busiest, m.Punches)
	}
	least := max(leastPeak, int64(float64(busiest)*c.PeakShare))
	list, zones := []Peak{}, []map[string]int64{}
	for _, m := range minutes {
		if m.Punches < least {
			continue
		}
		at := m.At.Truncate(quarter)
		if n := len(list); n == 0 || at.Sub(list[n-1].To) > quarter {
			list, zones = append(list, Peak{From: at}), append(zones, make(map[string]int64))
		}
		p := &list[len(list)-1]
		p.To = at.Add(quarter)
		if m.Punches > p.Punches {
			p.Busiest, p.Punches = m.At, m.Punches
		}
		p.Nodes, p.Servers = max(p.Nodes, c.nodes(m.Punches)), max(p.Servers, c.servers(m.Stored))
		for name, n := range m.zones {
			zones[len(zones)-1][name] += n
		}
	}
	for i := range list {
		list[i].Zone = dominant(zones[i])
	}
	return list
}

// Schedule is a peak of some weekdays by the clock of its zone, as terraform/modules/nodes reads it.
type Schedule struct {
	Zone       string   `json:"zone"`
	UTCOffsets []int    `json:"utc_offsets"` // of the zone over the year, in minutes
	Days       []string `json:"days"`
	From       string   `json:"from"`
	To         string   `json:"to"`
	Nodes      int      `json:"nodes"`

	from, to int // minutes of the local day; to may be on the next
}

var weekdays = []string{"MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"}

const (
	// alike is how far the ends of two days' peaks may differ in one schedule. Half an hour of capacity is cheaper than a
	// schedule for each day.
	alike = 30
	// longest is the longest run of a schedule: one that reached into its own next day could not be told from a short one.
	longest = 12 * time.Hour
)

// Schedules returns when the region needs more nodes than it always has. Peaks that are alike on several days become one
// schedule.
func (c *Config) Schedules(r *Region) ([]Schedule, error) {
	list := []Schedule{}
	for _, p := range r.Peaks {
		if p.Nodes <= c.LeastNodes {
			continue
		}
		clock, err := zone.Load(p.Zone)
		if err != nil {
			return nil, fmt.Errorf("time zone of a peak: %w", err)
		}
		for from, end := p.From.Add(-c.Lead), p.To.Add(quarter); from.Before(end); from = from.Add(longest) {
			to := from.Add(min(longest, end.Sub(from)))
			local := from.In(clock)
			start := local.Hour()*60 + local.Minute()
			list = add(list, Schedule{
				Zone: p.Zone, UTCOffsets: offsets(clock, p.From), Nodes: p.Nodes,
				Days: []string{weekdays[(int(local.Weekday())+6)%7]}, from: start, to: start + int(to.Sub(from).Minutes()),
			})
		}
	}
	for i := range list {
		s := &list[i]
		s.From, s.To = clockText(s.from), clockText(s.to)
		slices.SortFunc(s.Days, func(a, b string) int { return slices.Index(weekdays, a) - slices.Index(weekdays, b) })
	}
	return list, nil
}

func clockText(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60%24, minutes%60) }

// add adds a schedule of one day to a schedule that is like it, or as one of its own.
func add(list []Schedule, s Schedule) []Schedule {
	for i := range list {
		o := &list[i]
		if o.Zone != s.Zone || slices.Contains(o.Days, s.Days[0]) || abs(o.from-s.from) > alike || abs(o.to-s.to) > alike {
			continue
		}
		from, to := min(o.from, s.from), max(o.to, s.to)
		o.from, o.to, o.Nodes, o.Days = from, to, max(o.Nodes, s.Nodes), append(o.Days, s.Days...)
		return list
	}
	return append(list, s)
}

func abs(n int) int { return max(n, -n) }

// offsets returns the zone's offsets from UTC in the year from a time on, in minutes east.
func offsets(clock *time.Location, from time.Time) []int {
	found := make(map[int]bool)
	for month := range 12 {
		_, seconds := from.AddDate(0, month, 0).In(clock).Zone()
		found[seconds/60] = true
	}
	return slices.Sorted(maps.Keys(found))
}
