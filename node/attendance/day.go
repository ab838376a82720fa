package attendance

import (
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Status is the one word that a board shows for an employee and a date.
type Status string

// The statuses, in the order in which they are looked for.
const (
	OnBreak     Status = "on_break"
	Working     Status = "working"
	MissingOuts Status = "missing_out"
	Late        Status = "late"
	LeftEarly   Status = "left_early"
	Present     Status = "present"
	NotEmployed Status = "not_employed"
	OnHoliday   Status = "holiday"
	OnLeave     Status = "leave"
	Off         Status = "off"
	Expected    Status = "expected" // the shift has not begun, or its grace still runs
	NotKnownYet Status = "not_known_yet"
	Absent      Status = "absent"
)

// Mark is something about a day that a person should see. A day has any number of marks.
type Mark string

// The marks, in the order in which a day lists them.
const (
	MarkMissingOut      Mark = "missing_out"
	MarkMissingIn       Mark = "missing_in" // an out without an in
	MarkMissingBreakEnd Mark = "missing_break_end"
	MarkMissingBreakIn  Mark = "missing_break_start"
	MarkShortSession    Mark = "short_session" // a session of a minute or less
	MarkLongBreak       Mark = "long_break"    // more break than work
	MarkNeedsReview     Mark = "needs_review"  // a punch of a device with a wrong clock, which does not count
	MarkFuturePunch     Mark = "future_punch"  // a punch that lies ahead of now, which does not count yet
	MarkCorrected       Mark = "corrected"
	MarkLate            Mark = "late"
	MarkLeftEarly       Mark = "left_early"
	MarkMissedShift     Mark = "missed_shift" // sessions, but none in the shift
	MarkRosterConflict  Mark = "roster_conflict"
	MarkUnknownSchedule Mark = "unknown_schedule"
	MarkWorkedOnLeave   Mark = "worked_on_leave"
	MarkWorkedOnHoliday Mark = "worked_on_holiday"
	MarkNotEmployed     Mark = "not_employed" // punches outside the employment
	MarkShortRest       Mark = "short_rest"
	MarkLongDay         Mark = "long_day"
	MarkLongWeek        Mark = "long_week"
	MarkMissingBreak    Mark = "missing_break" // less break than the schedule requires, and no deduction
	MarkOverlap         Mark = "overlapping_sessions"
)

// Marks lists every mark in its order.
var Marks = []Mark{
	MarkMissingOut, MarkMissingIn, MarkMissingBreakEnd, MarkMissingBreakIn, MarkShortSession, MarkLongBreak, MarkNeedsReview,
	MarkFuturePunch, MarkCorrected, MarkLate, MarkLeftEarly, MarkMissedShift, MarkRosterConflict, MarkUnknownSchedule,
	MarkWorkedOnLeave, MarkWorkedOnHoliday, MarkNotEmployed, MarkShortRest, MarkLongDay, MarkLongWeek, MarkMissingBreak, MarkOverlap,
}

// SessionState says how a session ends.
type SessionState string

// The states of sessions.
const (
	SessionClosed     SessionState = "closed"
	SessionOpen       SessionState = "open"        // the employee is in
	SessionMissingOut SessionState = "missing_out" // its end is derived
)

// Day is the result of a fold for one employee and one work date. Durations are whole seconds. Times have the offset
// of the employee's zone.
type Day struct {
	Company  string    `json:"company"`
	Employee string    `json:"employee"`
	Date     Date      `json:"date"`
	Zone     string    `json:"zone"`
	Status   Status    `json:"status"`
	Marks    []Mark    `json:"marks,omitempty"`
	Shifts   []Planned `json:"shifts,omitempty"`
	Holiday  string    `json:"holiday,omitempty"`
	Absences []Absence `json:"absences,omitempty"`
	Sessions []Session `json:"sessions,omitempty"`
	Breaks   []Pause   `json:"breaks,omitempty"`
	Unpaired []Stamp   `json:"unpaired,omitempty"` // punches in no session and no break, which a person should look at
	Totals   Totals    `json:"totals"`
	Premiums []Amount  `json:"premiums,omitempty"`
	Rounding *Rounding `json:"rounding,omitempty"` // of the worked time in totals and exports
	Complete Complete  `json:"complete"`
	// Provisional days can change without another punch: the date is not over, or a session is open.
	Provisional bool `json:"provisional,omitempty"`
	// FoldAgainAt is when the day can change by the passing of time alone. It is zero when it cannot.
	FoldAgainAt time.Time `json:"fold_again_at,omitzero"`
	Inputs      Inputs    `json:"inputs"`
}

// Planned is the shift that was expected, after leave, holidays and employment.
type Planned struct {
	Schedule     string    `json:"schedule"`
	ScheduleFrom Date      `json:"schedule_from"` // the version
	Start        time.Time `json:"start"`
	End          time.Time `json:"end"`
}

// Session is the time from an in to its out.
type Session struct {
	In    *Stamp       `json:"in,omitempty"`
	Out   *Stamp       `json:"out,omitempty"`
	State SessionState `json:"state"`
	// Start and End are what counts for this date. A derived end is no punch. An open session has no length.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Pause is a break as pressed. To is absent when the end was not pressed.
type Pause struct {
	From *Stamp `json:"from"`
	To   *Stamp `json:"to,omitempty"`
}

// Stamp is a punch as it counts, after corrections.
type Stamp struct {
	ID     ID         `json:"id"`
	Kind   punch.Kind `json:"kind"`
	At     time.Time  `json:"at"`
	Source string     `json:"source,omitempty"`
	Reason Mark       `json:"reason,omitempty"` // why an unpaired punch does not count
}

// Totals are the durations of a day or of many days, in seconds.
type Totals struct {
	Worked         int64 `json:"worked_seconds"` // without breaks
	Break          int64 `json:"break_seconds"`  // as pressed, within sessions
	AutomaticBreak int64 `json:"automatic_break_seconds"`
	Target         int64 `json:"target_seconds"`
	Late           int64 `json:"late_seconds"`
	Early          int64 `json:"early_seconds"`
	OvertimeDaily  int64 `json:"overtime_daily_seconds"`
	OvertimeWeekly int64 `json:"overtime_weekly_seconds"`
}

// Amount is the worked time under one premium.
type Amount struct {
	Premium string `json:"premium"`
	Seconds int64  `json:"seconds"`
}

// Complete says up to when every source of the employee has reported, and which sources have been silent longest.
type Complete struct {
	Until time.Time `json:"until,omitzero"` // zero when no source is known
	// Silent lists the sources that hold back what the date needs.
	Silent []Source `json:"silent,omitempty"`
}

// Inputs identify what a day was made of. Every punch belongs to the Inputs of exactly one date.
type Inputs struct {
	FoldVersion int    `json:"fold_version"`
	ZoneVersion string `json:"zone_version"` // release of the time zone table
	Punches     int    `json:"punches"`      // with voided and added ones
	Digest      string `json:"digest"`       // of the punches after corrections
	Rules       string `json:"rules"`        // digest of settings, schedule, shift, leave, holiday and employment
}
