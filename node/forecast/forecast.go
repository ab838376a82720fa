// Package forecast says from last week's punches when next week's come, and what carries them: punches per minute and
// region, peaks, nodes and database servers. It reads no database and keeps no state.
package forecast

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/punchclock/punchclock/node/zone"
)

// Count is how many punches arrived in one minute of last week.
type Count struct {
	Home    string    // region in which they are stored
	Entry   string    // region in which they arrived
	Zone    string    // time zone of their companies
	Minute  time.Time // wall clock of the zone; the location means nothing
	Punches int64
}

// Config says what a forecast reckons with.
type Config struct {
	From       time.Time // the forecast covers a week from here
	NodeRate   float64   // punches a second for each node
	ServerRate float64   // punches a second for each database server
	Headroom   float64   // capacity divided by expected load
	// LeastNodes and LeastServers are what a region has without any load.
	LeastNodes, LeastServers int
	PeakShare                float64       // a quarter of an hour belongs to a peak from this share of the week's busiest minute on
	Lead                     time.Duration // how long before a peak its capacity must be there
}

// DefaultConfig returns the settings of the command, without From.
func DefaultConfig() Config {
	return Config{
		// Half of the 2,000/s that six nodes and PostgreSQL acknowledged together on one core.
		NodeRate: 1000,
		// A third of the 5,000 rows/s, in batches, of three CockroachDB servers that shared two cores: the lowest of several
		// runs. A server of its own with four processors carries more.
		ServerRate: 1500,
		// The other half is for the busiest second of a minute, and for the load of a zone or a region that is lost.
		Headroom: 2,
		// One in each zone of a region.
		LeastNodes: 3, LeastServers: 3,
		// Below a quarter of the busiest minute, the capacity between peaks is enough.
		PeakShare: 0.25,
		// A node takes about three minutes to start, and half a minute to be trusted with a full share.
		Lead: 15 * time.Minute,
	}
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.From.IsZero():
		return errors.New("forecast: From is missing")
	case c.NodeRate <= 0 || c.ServerRate <= 0:
		return fmt.Errorf("forecast: NodeRate and ServerRate must be more than 0, are %g and %g", c.NodeRate, c.ServerRate)
	case c.Headroom < 1:
		return fmt.Errorf("forecast: Headroom must be at least 1, is %g", c.Headroom)
	case c.LeastNodes < 1 || c.LeastServers < 1:
		return fmt.Errorf("forecast: LeastNodes and LeastServers must be at least 1, are %d and %d", c.LeastNodes, c.LeastServers)
	case c.PeakShare <= 0 || c.PeakShare > 1:
		return fmt.Errorf("forecast: PeakShare must be more than 0 and at most 1, is %g", c.PeakShare)
	case c.Lead < 0 || c.Lead > 6*time.Hour:
		return fmt.Errorf("forecast: Lead must be from 0 to 6h, is %s", c.Lead)
	default:
		return nil
	}
}

// Forecast is next week.
type Forecast struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Regions []Region  `json:"regions"`
}

// Region is what is expected in a region.
type Region struct {
	Name    string   `json:"name"`
	Nodes   int      `json:"nodes"`   // that the busiest minute needs
	Servers int      `json:"servers"` // that the busiest minute needs
	Peaks   []Peak   `json:"peaks"`
	Minutes []Minute `json:"minutes"` // without the minutes in which nothing is expected
}

// Minute is what is expected in one minute.
type Minute struct {
	At      time.Time `json:"at"`
	Punches int64     `json:"punches"` // that nodes of the region take: they arrive here, or have their home here
	Stored  int64     `json:"stored"`  // that the region's database stores

	zones map[string]int64
}

// week is the length of a forecast.
const week = 7 * 24 * time.Hour

// Make makes the forecast. A minute of the wall clock is expected on the same weekday of next week, at the same time of
// the company's clock.
func Make(cfg Config, regions []string, counts []Count) (Forecast, error) {
	if err := cfg.Validate(); err != nil {
		return Forecast{}, err
	}
	f := Forecast{From: cfg.From.UTC().Truncate(quarter)}
	f.To = f.From.Add(week)
	minutes := make(map[string]map[time.Time]*Minute, len(regions))
	for _, name := range regions {
		minutes[name] = make(map[time.Time]*Minute)
	}
	for i := range counts {
		c := &counts[i]
		at, err := f.expected(c)
		if err != nil {
			return Forecast{}, err
		}
		for name, stored := range map[string]int64{c.Entry: 0, c.Home: c.Punches} { // the home counts once if both are one
			if minutes[name] == nil { // punches of last week may have entered in a region that is gone
				continue
			}
			m := minutes[name][at]
			if m == nil {
				m = &Minute{At: at, zones: make(map[string]int64)}
				minutes[name][at] = m
			}
			m.Punches += c.Punches
			m.Stored += stored
			m.zones[c.Zone] += c.Punches
		}
	}
	for _, name := range regions {
		list := slices.Collect(maps.Values(minutes[name]))
		slices.SortFunc(list, func(a, b *Minute) int { return a.At.Compare(b.At) })
		f.Regions = append(f.Regions, cfg.region(name, list))
	}
	return f, nil
}

// expected returns the minute in which the punches of a minute come again.
func (f *Forecast) expected(c *Count) (time.Time, error) {
	clock, err := zone.Load(c.Zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("time zone of last week's punches: %w", err)
	}
	w := c.Minute
	weeks := max(0, int(f.From.Sub(w)/week)-1) // a first guess that is never too late
	for {
		at := time.Date(w.Year(), w.Month(), w.Day()+7*weeks, w.Hour(), w.Minute(), 0, 0, clock).UTC()
		if !at.Before(f.From) {
			return at, nil
		}
		weeks++
	}
}

func (c *Config) region(name string, minutes []*Minute) Region {
	r := Region{Name: name, Nodes: c.LeastNodes, Servers: c.LeastServers, Minutes: []Minute{}, Peaks: c.peaks(minutes)}
	for _, m := range minutes {
		r.Nodes, r.Servers = max(r.Nodes, c.nodes(m.Punches)), max(r.Servers, c.servers(m.Stored))
		r.Minutes = append(r.Minutes, *m)
	}
	return r
}

func (c *Config) nodes(perMinute int64) int {
	return max(c.LeastNodes, needed(perMinute, c.Headroom, c.NodeRate))
}

func (c *Config) servers(perMinute int64) int {
	return max(c.LeastServers, needed(perMinute, c.Headroom, c.ServerRate))
}

func needed(perMinute int64, headroom, rate float64) int {
	return int(math.Ceil(float64(perMinute) / 60 * headroom / rate))
}

// dominant returns the zone with the most punches.
func dominant(zones map[string]int64) string {
	names := slices.Sorted(maps.Keys(zones)) // equal zones must not take turns
	return slices.MaxFunc(names, func(a, b string) int { return cmp.Compare(zones[a], zones[b]) })
}
