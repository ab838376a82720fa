package attendance

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
)

// FoldVersion is the version of the rules in this code. It grows when the same inputs can give another day.
const FoldVersion = 1

// RuleSet is what NewRules compiles: every version of the settings and schedules of a company, and its holidays.
type RuleSet struct {
	Settings  []Settings
	Schedules []Schedule
	Holidays  []Holiday
}

// Rules are the compiled rules of one company. They do not change, so goroutines may share them.
type Rules struct {
	settings  []settings            // in the order of EffectiveFrom
	schedules map[string][]schedule // by name, in the order of EffectiveFrom
	holidays  map[holidayKey]*Holiday
}

type settings struct {
	Settings
	loc    *time.Location
	digest digest
}

type schedule struct {
	Schedule
	digest digest
}

type holidayKey struct {
	calendar string
	date     Date
}

// NewRules checks and compiles rules. A company needs at least one Settings. Before the first version of Settings, the
// first version applies. Before the first version of a schedule, the schedule has no shifts. Errors are Invalid.
func NewRules(set RuleSet) (*Rules, error) {
	r := &Rules{schedules: make(map[string][]schedule), holidays: make(map[holidayKey]*Holiday, len(set.Holidays))}
	if len(set.Settings) == 0 {
		return nil, punch.InvalidField("settings", "must have at least one version; a company needs a time zone")
	}
	for _, s := range set.Settings {
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("settings from %s: %w", s.EffectiveFrom, err)
		}
		loc, err := zone.Load(s.Zone)
		if err != nil {
			return nil, punch.InvalidField("zone", "%s", err)
		}
		r.settings = append(r.settings, settings{Settings: s, loc: loc, digest: digestJSON(s)})
	}
	for _, s := range set.Schedules {
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("schedule %s from %s: %w", s.Name, s.EffectiveFrom, err)
		}
		r.schedules[s.Name] = append(r.schedules[s.Name], schedule{Schedule: s, digest: digestJSON(s)})
	}
	for _, h := range set.Holidays {
		if err := h.Validate(); err != nil {
			return nil, fmt.Errorf("holiday %s: %w", h.Date, err)
		}
		key := holidayKey{h.Calendar, h.Date}
		if r.holidays[key] != nil {
			return nil, punch.InvalidField("holidays", "calendar %s has two holidays on %s; leave one", h.Calendar, h.Date)
		}
		r.holidays[key] = &h
	}
	return r, r.sortVersions()
}

// sortVersions refuses two versions from one date: nothing says which of them counts.
func (r *Rules) sortVersions() error {
	byDate := func(a, b settings) int { return cmp.Compare(a.EffectiveFrom, b.EffectiveFrom) }
	slices.SortStableFunc(r.settings, byDate)
	for i := 1; i < len(r.settings); i++ {
		if r.settings[i].EffectiveFrom == r.settings[i-1].EffectiveFrom {
			return punch.InvalidField("effective_from", "two versions of the settings apply from %s; leave one", r.settings[i].EffectiveFrom)
		}
	}
	for name, versions := range r.schedules {
		slices.SortStableFunc(versions, func(a, b schedule) int { return cmp.Compare(a.EffectiveFrom, b.EffectiveFrom) })
		for i := 1; i < len(versions); i++ {
			if versions[i].EffectiveFrom == versions[i-1].EffectiveFrom {
				return punch.InvalidField("effective_from", "two versions of schedule %s apply from %s; leave one", name, versions[i].EffectiveFrom)
			}
		}
	}
	return nil
}

func (r *Rules) settingsOn(d Date) *settings {
	current := &r.settings[0]
	for i := 1; i < len(r.settings) && r.settings[i].EffectiveFrom <= d; i++ {
		current = &r.settings[i]
	}
	return current
}

// scheduleOn returns the version that applies on d, nil without one.
func (r *Rules) scheduleOn(name string, d Date) (current *schedule) {
	versions := r.schedules[name]
	for i := 0; i < len(versions) && versions[i].EffectiveFrom <= d; i++ {
		current = &versions[i]
	}
	return current
}

// The reach of a fold in days. A work date needs exact sessions of the week before it, for weekly overtime, and of two
// more dates, for the rest. A session of a date begins up to two dates earlier. The state at its begin depends on
// punches of at most two dates before. plan.go bounds how far a shift moves the boundary of a day.
const (
	reachBack    = 8 // days before the week begins
	reachForward = 4 // a session ends within a day after its date, and its boundary within another
)

// Window returns the span of time from which Fold takes punches for the dates from and to: start <= t < end. Load the
// punches whose time is in one of the spans of PunchSpans for this window.
func (r *Rules) Window(from, to Date) (start, end time.Time) {
	first := r.firstDate(from)
	return (first - reachBack).Time(), (to + reachForward).Time()
}

// firstDate returns the first date whose time counts for the week of d.
func (r *Rules) firstDate(d Date) Date { return d.weekStart(time.Weekday(r.settingsOn(d).WeekStart)) }

// Span is a span of time: From <= t < Until.
type Span struct{ From, Until time.Time }

// PunchSpans returns the spans of recorded time from which punches can count in the window. A shift of a source can move
// a punch of 1970 into the window. The caller also loads the targets of all corrections by their ids.
func PunchSpans(start, end time.Time, corrections []Correction) []Span {
	spans := []Span{{start, end}}
	for _, c := range corrections {
		if c.Op != OpShift || c.Decision != Accepted {
			continue
		}
		by := time.Duration(c.BySeconds) * time.Second
		s := Span{later(c.From, start.Add(-by)), earlier(c.Until, end.Add(-by))}
		if s.From.Before(s.Until) {
			spans = append(spans, s)
		}
	}
	return spans
}

// Affected returns the work dates whose days can change when a punch at t arrives, changes or is removed. Weekly rules
// reach to the end of the week. Most days in it stay the same: compare before writing.
func (r *Rules) Affected(t time.Time) (from, to Date) {
	// The zone, the boundary of the day, and a session each move a punch by a date. The rest reaches one further.
	d := DateOf(t.UTC())
	return d - 3, r.firstDate(d+4) + 6
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// digestJSON digests rules. New fields of Settings and Schedule need omitzero in their tag. Otherwise nodes of two
// releases would compute two digests for rules that do not use the field, and fold all days again and again.
func digestJSON(v any) digest {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(fmt.Sprintf("encoding rules that are valid: %v", err))
	}
	sum := sha256.Sum256(text)
	return digest(sum[:len(digest{})])
}
