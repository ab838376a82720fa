package attendance_test

import (
	"fmt"
	"time"

	"github.com/punchclock/punchclock/node/attendance"
	"github.com/punchclock/punchclock/node/punch"
)

// A worker loads what Rules.Window asks for, folds, and stores the days.
func Example() {
	schedule, err := attendance.ParseSchedule([]byte(`{"schedule":"office","effective_from":"2026-01-05","cycle_start":"2026-01-05",
		"cycle":[{"start":"08:00","end":"17:00"}],"breaks":[{"after_minutes":360,"minutes":30,"deduct":true}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	rules, err := attendance.NewRules(attendance.RuleSet{
		Settings:  []attendance.Settings{attendance.DefaultSettings("Europe/Berlin")},
		Schedules: []attendance.Schedule{schedule},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	day, now := attendance.DateOf(time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)), time.Date(2026, 11, 2, 18, 0, 0, 0, time.UTC)
	start, end := rules.Window(day, day)
	fmt.Println("load punches from", start.Format(time.DateOnly), "to", end.Format(time.DateOnly))
	days := attendance.Fold(attendance.Timeline{
		Company: "acme", Employee: "anna", From: day, To: day,
		Punches: []attendance.Punch{
			{ID: attendance.ID{1}, Kind: punch.In, At: time.Date(2026, 11, 2, 7, 10, 0, 0, time.UTC), Source: "gate"},
			{ID: attendance.ID{2}, Kind: punch.Out, At: time.Date(2026, 11, 2, 16, 0, 0, 0, time.UTC), Source: "gate"},
		},
		Assignments: []attendance.Assignment{{From: day, Schedule: "office"}},
		Sources:     []attendance.Source{{Name: "gate", CompleteUntil: now}},
	}, rules, now)
	for _, d := range days {
		fmt.Println(d.Date, d.Status, time.Duration(d.Totals.Worked)*time.Second, d.Marks)
	}
	// Output:
	// load punches from 2026-10-25 to 2026-11-06
	// 2026-11-02 late 8h20m0s [late]
}
