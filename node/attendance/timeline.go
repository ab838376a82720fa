package attendance

import (
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

// Timeline holds everything that is known about one employee of one company around some dates. The order of its lists
// has no meaning.
type Timeline struct {
	Company  string
	Employee string
	// From and To are the first and the last work date that Fold returns.
	From, To Date
	// Location is the employee's own time zone. Nil means the company's.
	Location *time.Location
	// Punches and Corrections should cover Rules.Window of From and To. Fold ignores what lies outside.
	Punches     []Punch
	Corrections []Correction
	Employment  Employment
	Assignments []Assignment
	Absences    []Absence
	// Sources are the terminals and programs that the employee may use.
	Sources []Source
}

// ID is the id of a punch or of a correction. It is written in its canonical form of 36 characters.
type ID punch.ID

// String returns the canonical form.
func (id ID) String() string { return punch.ID(id).String() }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := punch.ParseID(string(text))
	*id = ID(parsed)
	return err
}

// Punch is the part of a stored punch that attendance depends on. The home region is not part of it, so a rehoming
// cannot change a day.
type Punch struct {
	ID     ID         `json:"id"`
	Kind   punch.Kind `json:"kind"`
	At     time.Time  `json:"at"` // when the employee punched
	Source string     `json:"source,omitempty"`
	// Review is set for a punch whose device must have had a wrong clock (NeedsReview of its receipt). Fold counts such
	// a punch only after a correction.
	Review bool `json:"needs_review,omitempty"`
}

// PunchOf returns the punch of a stored row.
func PunchOf(r *punch.Receipt, source string) Punch {
	return Punch{ID: ID(r.ID), Kind: r.Kind, At: r.PunchedAt, Source: source, Review: r.NeedsReview}
}

// Op names what a correction does.
type Op string

// The operations of corrections.
const (
	OpAdd    Op = "add"    // adds a punch; its id is the id of the correction
	OpVoid   Op = "void"   // removes a punch, or cancels an earlier correction
	OpRetime Op = "retime" // gives a punch another time
	OpRekind Op = "rekind" // gives a punch another kind
	OpShift  Op = "shift"  // moves all punches of a source in a span of time: its clock was wrong
	OpNote   Op = "note"   // changes nothing
)

// Decision is the state of a correction that an employee has asked for.
type Decision string

// The decisions. Only accepted corrections count.
const (
	Accepted  Decision = "accepted"
	Requested Decision = "requested"
	Refused   Decision = "refused"
)

// Correction is one change that a person has made to the evidence. Corrections are never changed or deleted: a later
// correction cancels an earlier one.
type Correction struct {
	ID       ID         `json:"id"`
	Op       Op         `json:"op"`
	WorkDate Date       `json:"work_date"`
	Target   ID         `json:"target,omitzero"` // the punch, the added punch or the correction
	Kind     punch.Kind `json:"kind,omitempty"`  // of OpAdd and OpRekind
	At       time.Time  `json:"at,omitzero"`     // of OpAdd and OpRetime
	// Source, From and Until select the punches of OpShift by their recorded time, From <= t < Until. Source is also
	// the source of an added punch.
	Source string    `json:"source,omitempty"`
	From   time.Time `json:"from,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	// BySeconds is added to the recorded time by OpShift. It is negative for a clock that was ahead.
	BySeconds int64     `json:"by_seconds,omitempty"`
	Decision  Decision  `json:"decision"`
	Reason    string    `json:"reason"`
	Author    string    `json:"author"`
	MadeAt    time.Time `json:"made_at"` // by the server's clock; corrections apply in the order of (MadeAt, ID)
}

// Employment is the span in which the person is employed. A zero time is an open end.
type Employment struct {
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
}

// Assignment gives the employee a schedule from a date on, until the next assignment. An empty schedule ends the one
// before. Two assignments from one date with different schedules are rosters that disagree.
type Assignment struct {
	From     Date   `json:"from"`
	Schedule string `json:"schedule"`
}

// Part says which part of a shift an absence or a holiday covers. The halves meet in the middle of the shift.
type Part string

// The parts.
const (
	Full       Part = "full"
	FirstHalf  Part = "first_half"
	SecondHalf Part = "second_half"
)

// Absence is a known absence of the employee: leave, sick, travel or a name of another system.
type Absence struct {
	Date Date   `json:"date"`
	Kind string `json:"kind"`
	Part Part   `json:"part"`
}

// Holiday is a day of a calendar on which no work is expected.
type Holiday struct {
	Calendar string `json:"calendar"`
	Date     Date   `json:"date"`
	Name     string `json:"name"`
	Part     Part   `json:"part"`
}

// Source tells how far the punches of a terminal or a program are known.
type Source struct {
	Name string `json:"source"`
	// CompleteUntil is the time up to which every punch of the source has arrived: its last contact, or the time of the
	// oldest punch that it still holds.
	CompleteUntil time.Time `json:"complete_until"`
	Waiting       int       `json:"waiting"` // punches that it still holds
}
