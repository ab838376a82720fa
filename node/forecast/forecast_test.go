package forecast

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wall returns a minute of the wall clock.
func wall(text string) time.Time {
	at, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		panic(err)
	}
	return at
}

func mustMake(t *testing.T, from string, counts ...Count) Forecast {
	t.Helper()
	cfg := DefaultConfig()
	cfg.From = wall(from)
	f, err := Make(cfg, []string{"eu-west", "us-east"}, counts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestHalfPastEightStaysHalfPastEight forecasts over the end of summer time in Europe, on 25 October 2026.
func TestHalfPastEightStaysHalfPastEight(t *testing.T) {
	f := mustMake(t, "2026-10-24 00:00",
		Count{Home: "eu-west", Entry: "eu-west", Zone: "Europe/Berlin", Minute: wall("2026-10-23 08:30"), Punches: 60},
		Count{Home: "eu-west", Entry: "eu-west", Zone: "Asia/Kolkata", Minute: wall("2026-10-19 08:30"), Punches: 7},
	)
	var got []string
	for _, m := range f.Regions[0].Minutes {
		got = append(got, m.At.Format("Mon 2006-01-02 15:04"))
	}
	// In Berlin 08:30 was 06:30 UTC, and is 07:30 a week later.
	if want := []string{"Mon 2026-10-26 03:00", "Fri 2026-10-30 07:30"}; !slices.Equal(got, want) {
		t.Errorf("expected at %v, want %v", got, want)
	}
}

func TestNodesTakeWhatEntersAndServersWhatIsStored(t *testing.T) {
	f := mustMake(t, "2026-11-28 00:00",
		Count{Home: "eu-west", Entry: "eu-west", Zone: "Europe/Berlin", Minute: wall("2026-11-23 08:30"), Punches: 120_000},
		Count{Home: "us-east", Entry: "eu-west", Zone: "Europe/Berlin", Minute: wall("2026-11-23 08:30"), Punches: 60_000},
	)
	eu, us := f.Regions[0], f.Regions[1]
	if m := eu.Minutes[0]; m.Punches != 180_000 || m.Stored != 120_000 {
		t.Errorf("eu-west takes %d and stores %d, want 180000 and 120000", m.Punches, m.Stored)
	}
	if m := us.Minutes[0]; m.Punches != 60_000 || m.Stored != 60_000 {
		t.Errorf("us-east takes %d and stores %d, want 60000 of both", m.Punches, m.Stored)
	}
	// 3,000/s need six nodes of 1,000/s with twice the capacity, and 2,000/s three servers of 1,500/s.
	if eu.Nodes != 6 || eu.Servers != 3 || us.Nodes != 3 || us.Servers != 3 {
		t.Errorf("nodes %d and %d, servers %d and %d, want 6 and 3, 3 and 3", eu.Nodes, us.Nodes, eu.Servers, us.Servers)
	}
}

// rush returns a rush of half an hour on a day.
func rush(zone, start string, perMinute int64) (list []Count) {
	for i := range 30 {
		list = append(list, Count{
			Home: "eu-west", Entry: "eu-west", Zone: zone, Minute: wall(start).Add(time.Duration(i) * time.Minute), Punches: perMinute,
		})
	}
	return list
}

func TestPeaksOfAllDaysAndTheirSchedules(t *testing.T) {
	var counts []Count
	for _, day := range []string{"2026-11-23", "2026-11-24", "2026-11-26", "2026-11-27"} {
		counts = append(counts, rush("Europe/Berlin", day+" 08:30", 300_000)...)
	}
	counts = append(counts, rush("Europe/Berlin", "2026-11-25 08:15", 360_000)...) // a little earlier: the same schedule
	counts = append(counts, rush("Europe/Berlin", "2026-11-23 16:30", 150_000)...)
	counts = append(counts, rush("America/New_York", "2026-11-22 23:30", 200_000)...) // over midnight
	counts = append(counts, rush("Europe/Berlin", "2026-11-25 12:00", 1_000)...)      // too small beside the others
	f := mustMake(t, "2026-11-28 00:00", counts...)
	if n := len(f.Regions[0].Peaks); n != 7 {
		t.Fatalf("%d peaks, want 7: %+v", n, f.Regions[0].Peaks)
	}
	cfg := DefaultConfig()
	schedules, err := cfg.Schedules(&f.Regions[0])
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range schedules {
		got = append(got, strings.Join(s.Days, ",")+" "+s.From+"-"+s.To+" "+s.Zone)
	}
	slices.Sort(got)
	want := []string{
		"MON 16:15-17:15 Europe/Berlin", "MON,TUE,WED,THU,FRI 08:00-09:15 Europe/Berlin", "SUN 23:15-00:15 America/New_York",
	}
	if !slices.Equal(got, want) {
		t.Errorf("schedules %q, want %q", got, want)
	}
	for _, s := range schedules {
		if s.Zone == "America/New_York" && !slices.Equal(s.UTCOffsets, []int{-300, -240}) {
			t.Errorf("offsets of New York: %v", s.UTCOffsets)
		}
		if s.From == "08:00" && s.Nodes != 12 { // 6,000/s
			t.Errorf("%d nodes, want 12", s.Nodes)
		}
	}
}

// TestEveryPunchIsExpectedOnce holds for arbitrary weeks: each counted punch is expected in the week of the forecast, on
// its weekday and at its time of day.
func TestEveryPunchIsExpectedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.From = wall("2026-01-01 00:00").Add(time.Duration(rapid.IntRange(0, 365*96).Draw(t, "from")) * quarter)
		zones := rapid.SampledFrom([]string{"Europe/Berlin", "Asia/Kolkata", "America/New_York", "Pacific/Auckland", "Etc/UTC"})
		var counts []Count
		sum := int64(0)
		for range rapid.IntRange(0, 20).Draw(t, "counts") {
			c := Count{
				Home: "a", Entry: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "entry"), Zone: zones.Draw(t, "zone"),
				Minute:  cfg.From.Add(-time.Duration(rapid.IntRange(1, 8*1440).Draw(t, "ago")) * time.Minute),
				Punches: rapid.Int64Range(1, 1000).Draw(t, "punches"),
			}
			counts, sum = append(counts, c), sum+c.Punches
		}
		f, err := Make(cfg, []string{"a", "b"}, counts)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range f.Regions[0].Minutes {
			sum -= m.Stored
			// The hour that a change of the clocks skips or repeats may reach past the end.
			if m.At.Before(f.From) || m.At.After(f.To.Add(time.Hour)) {
				t.Fatalf("expected at %s, outside %s to %s", m.At, f.From, f.To)
			}
		}
		if sum != 0 {
			t.Fatalf("%d punches are not expected, or twice", sum)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"From":         func(c *Config) { c.From = time.Time{} },
		"NodeRate":     func(c *Config) { c.NodeRate = 0 },
		"ServerRate":   func(c *Config) { c.ServerRate = -1 },
		"Headroom":     func(c *Config) { c.Headroom = 0.5 },
		"LeastNodes":   func(c *Config) { c.LeastNodes = 0 },
		"LeastServers": func(c *Config) { c.LeastServers = 0 },
		"PeakShare":    func(c *Config) { c.PeakShare = 2 },
		"Lead":         func(c *Config) { c.Lead = -time.Minute },
	} {
		cfg := DefaultConfig()
		cfg.From = wall("2026-11-28 00:00")
		change(&cfg)
		if _, err := Make(cfg, nil, nil); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v, want an error that names the field", field, err)
		}
	}
}

func TestAnUnknownZoneIsNamed(t *testing.T) {
	cfg := DefaultConfig()
	cfg.From = wall("2026-11-28 00:00")
	_, err := Make(cfg, []string{"a"}, []Count{{Home: "a", Entry: "a", Zone: "Europe/Berln", Minute: wall("2026-11-23 08:30"), Punches: 1}})
	if err == nil || !strings.Contains(err.Error(), "Europe/Berln") {
		t.Errorf("%v, want an error that names the zone", err)
	}
}
