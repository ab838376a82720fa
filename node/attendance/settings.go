package attendance

// Pairing says how punches become sessions.
type Pairing string

// The pairing modes.
const (
	AsPressed   Pairing = "as-pressed"  // in and out as the employee pressed them; auto is read by what came before
	Alternating Pairing = "alternating" // the keys are not trusted: in, out, in, out within each day
	FirstLast   Pairing = "first-last"  // the first punch of a day comes, the last one goes
)

// WorkDate says to which date a session belongs.
type WorkDate string

// The rules for the work date. A session in a shift follows the date that the rule gives to the shift.
const (
	ByStart      WorkDate = "start"
	ByEnd        WorkDate = "end"
	ByLongerPart WorkDate = "longer-part" // measured at local midnight; equal parts belong to the start
	BySplit      WorkDate = "split"       // cut at local midnight
)

// MissingOut says how much of a session without an out counts.
type MissingOut string

// The rules for a missing out.
const (
	CountNothing  MissingOut = "nothing"
	CountShift    MissingOut = "shift-end" // to the end of the shift, nothing without a shift
	CountLongest  MissingOut = "longest-session"
	minutesPerDay            = 24 * 60
)

// Settings are the rules of a company from a date on, until its next Settings. ParseSettings reads them.
type Settings struct {
	EffectiveFrom Date   `json:"effective_from"`
	Zone          string `json:"zone"` // IANA name
	// DayBoundary is when a work date begins. Shifts near it move it: see plan.go.
	DayBoundary Clock   `json:"day_boundary"`
	Pairing     Pairing `json:"pairing"`
	// DoubleTapSeconds is the gap up to which repeated punches count once; 0 turns the rule off.
	DoubleTapSeconds      int        `json:"double_tap_seconds"`
	WorkDate              WorkDate   `json:"work_date"`
	LongestSessionMinutes int        `json:"longest_session_minutes"`
	MissingOut            MissingOut `json:"missing_out"`
	WeekStart             Weekday    `json:"week_start"`
	Calendar              string     `json:"calendar,omitempty"` // of holidays; a schedule may name another
	// SilentAfterMinutes is how long a source may be silent during a shift before absences become not known yet.
	SilentAfterMinutes int    `json:"silent_after_minutes"`
	Limits             Limits `json:"limits"`
}

// Limits make legal marks. A limit of 0 makes none.
type Limits struct {
	RestMinutes int `json:"rest_minutes"` // least rest between two days
	DayMinutes  int `json:"day_minutes"`  // most work on a date
	WeekMinutes int `json:"week_minutes"` // most work in a week
}

// DefaultSettings returns the settings of a company that has chosen nothing but its zone. They apply from the start.
func DefaultSettings(zone string) Settings {
	return Settings{
		EffectiveFrom: MinDate,
		Zone:          zone,
		DayBoundary:   4 * 60, // the hour in which the fewest people arrive or leave
		Pairing:       AsPressed,
		// People tap again within seconds when they have not heard the beep.
		DoubleTapSeconds: 60,
		WorkDate:         ByStart,
		// Double shifts have 16 hours. A longer span is a forgotten out.
		LongestSessionMinutes: 16 * 60,
		MissingOut:            CountShift,
		WeekStart:             1,
		// Terminals report every few minutes. A quarter of an hour bears one lost report.
		SilentAfterMinutes: 15,
		// Directive 2003/88/EC: 11 hours of rest, 48 hours a week; 10 hours a day is the limit of several member states.
		Limits: Limits{RestMinutes: 11 * 60, DayMinutes: 10 * 60, WeekMinutes: 48 * 60},
	}
}

// Schedule is what is expected of the employees who are assigned to it, from a date on, until its next version.
// ParseSchedule reads it.
type Schedule struct {
	Name          string `json:"schedule"`
	EffectiveFrom Date   `json:"effective_from"`
	// Cycle holds one entry for each day, and begins again after the last. Its first entry belongs to CycleStart. Null
	// is a day off.
	CycleStart Date     `json:"cycle_start"`
	Cycle      []*Shift `json:"cycle"`
	// DayBoundary replaces the boundary of the company.
	DayBoundary *Clock    `json:"day_boundary,omitempty"`
	Calendar    string    `json:"calendar,omitempty"` // replaces the calendar of the company
	Grace       Grace     `json:"grace,omitzero"`
	Breaks      []Break   `json:"breaks,omitempty"` // in the order of their AfterMinutes
	Overtime    Overtime  `json:"overtime,omitzero"`
	Premiums    []Premium `json:"premiums,omitempty"`
	Rounding    *Rounding `json:"rounding,omitempty"`
}

// Shift is the work of one day in local time. An End that is not after Start lies on the next date.
type Shift struct {
	Start Clock `json:"start"`
	End   Clock `json:"end"`
	// Flexible shifts have neither late nor early: the employee may come at any time between Start and End.
	Flexible bool `json:"flexible,omitempty"`
	// TargetMinutes is the work that is expected. 0 means the length of the shift less the breaks that it requires.
	TargetMinutes int `json:"target_minutes,omitempty"`
}

// length returns the minutes from Start to End on a day without a change of clocks.
func (s *Shift) length() int {
	if s.End <= s.Start {
		return int(s.End-s.Start) + minutesPerDay
	}
	return int(s.End - s.Start)
}

// Grace is how late or early an employee may be without a mark.
type Grace struct {
	LateMinutes  int `json:"late_minutes,omitempty"`
	EarlyMinutes int `json:"early_minutes,omitempty"`
}

// Break requires Minutes of break in all after AfterMinutes of work. Deduct takes what is missing from the worked time.
// Otherwise a missing break makes a mark.
type Break struct {
	AfterMinutes int  `json:"after_minutes"`
	Minutes      int  `json:"minutes"`
	Deduct       bool `json:"deduct,omitempty"`
}

// Overtime is work beyond these minutes. 0 turns a rule off. Weekly overtime leaves out what is daily overtime.
type Overtime struct {
	DailyAfterMinutes  int `json:"daily_after_minutes,omitempty"`
	WeeklyAfterMinutes int `json:"weekly_after_minutes,omitempty"`
}

// Premium counts work in a window of local time, on some weekdays, or on holidays. A window that does not end after its
// start crosses midnight. Start and End are both set or both absent.
type Premium struct {
	Name     string    `json:"premium"`
	Start    *Clock    `json:"start,omitempty"`
	End      *Clock    `json:"end,omitempty"`
	Weekdays []Weekday `json:"weekdays,omitempty"` // of the window's start; empty means every day
	Holidays bool      `json:"holidays,omitempty"` // only on full holidays of the calendar
}

// RoundingMode is the direction of rounding.
type RoundingMode string

// The modes of rounding. RoundNearest rounds half up.
const (
	RoundNearest RoundingMode = "nearest"
	RoundDown    RoundingMode = "down"
	RoundUp      RoundingMode = "up"
)

// Rounding rounds the worked time of each day in totals and exports. Days keep the exact value.
type Rounding struct {
	Minutes int          `json:"minutes"`
	Mode    RoundingMode `json:"mode"`
}
