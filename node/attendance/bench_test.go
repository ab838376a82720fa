package attendance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/attendance"
)

// benchWorld is an employee with a month of work and a schedule with every rule.
func benchWorld(b *testing.B) *world {
	w := newWorld(b, "Europe/Berlin")
	w.roster(`{"schedule":"office","effective_from":"2026-01-05","cycle_start":"2026-01-05","cycle":[
		{"start":"08:00","end":"17:00"},{"start":"08:00","end":"17:00"},{"start":"08:00","end":"17:00"},
		{"start":"08:00","end":"17:00"},{"start":"08:00","end":"17:00"},null,null],
		"grace":{"late_minutes":5},"breaks":[{"after_minutes":360,"minutes":30,"deduct":true}],
		"overtime":{"daily_after_minutes":480,"weekly_after_minutes":2400},
		"premiums":[{"premium":"night","start":"20:00","end":"06:00"},{"premium":"sunday","weekdays":["sunday"]}]}`)
	for d := time.Date(2026, 10, 12, 8, 0, 0, 0, w.loc); d.Before(time.Date(2026, 12, 5, 0, 0, 0, 0, w.loc)); d = d.AddDate(0, 0, 1) {
		if d.Weekday() == time.Saturday || d.Weekday() == time.Sunday {
			continue
		}
		date := d.Format("2006-01-02")
		w.inOut(date+" 07:58", date+" 12:01")
		w.inOut(date+" 12:40", date+" 17:20")
	}
	return w
}

// BenchmarkFold reports days per second and core: of a month, as a rebuild folds it, and of one date, as a worker does.
func BenchmarkFold(b *testing.B) {
	w := benchWorld(b)
	rules := w.rules()
	for _, span := range [][2]string{{"2026-11-01", "2026-11-30"}, {"2026-11-18", "2026-11-18"}} {
		line := w.line
		line.From, line.To = mustDate(b, span[0]), mustDate(b, span[1])
		start, end := rules.Window(line.From, line.To)
		line.Punches = nil
		for _, p := range w.line.Punches {
			if !p.At.Before(start) && p.At.Before(end) {
				line.Punches = append(line.Punches, p)
			}
		}
		days := int(line.To-line.From) + 1
		b.Run(fmt.Sprintf("days=%d", days), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := attendance.Fold(line, rules, w.now); len(got) != days {
					b.Fatalf("%d days, want %d", len(got), days)
				}
			}
			b.ReportMetric(float64(days*b.N)/b.Elapsed().Seconds(), "days/s")
		})
	}
}
