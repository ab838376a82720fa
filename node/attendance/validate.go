package attendance

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
)

// The bounds of lists and names. They keep the text of a schedule below 64 KiB and the time of a fold short.
const (
	unitClock  = "minutes after midnight"
	lastMinute = minutesPerDay - 1
	// latestBoundary is noon. A work date that began later would lie mostly on the next date.
	latestBoundary = minutesPerDay / 2

	MaxCycle    = 366 // a year of single days
	MaxBreaks   = 8
	MaxPremiums = 16
	MaxLabel    = 64 // bytes in the name of a premium, a holiday or a kind of absence
)

// Validate returns an Invalid *punch.Error that names the first wrong field.
func (s *Settings) Validate() error {
	if _, err := zone.Load(s.Zone); err != nil {
		return punch.InvalidField("zone", "%s", err)
	}
	if s.Calendar != "" && !punch.ValidSource(s.Calendar) {
		return punch.InvalidField("calendar", punch.NameRule)
	}
	return firstError(
		validDate("effective_from", s.EffectiveFrom),
		within("day_boundary", int(s.DayBoundary), 0, latestBoundary, unitClock),
		oneOf("pairing", s.Pairing, AsPressed, Alternating, FirstLast),
		// A quarter of an hour is the widest gap that terminals offer.
		within("double_tap_seconds", s.DoubleTapSeconds, 0, 15*60, "seconds"),
		oneOf("work_date", s.WorkDate, ByStart, ByEnd, ByLongerPart, BySplit),
		// Fold looks as far back as the longest session that this allows: see Rules.Window.
		within("longest_session_minutes", s.LongestSessionMinutes, 60, minutesPerDay, "minutes"),
		oneOf("missing_out", s.MissingOut, CountNothing, CountShift, CountLongest),
		within("week_start", int(s.WeekStart), 0, 6, "days after Sunday"),
		within("silent_after_minutes", s.SilentAfterMinutes, 1, minutesPerDay, "minutes"),
		within("limits.rest_minutes", s.Limits.RestMinutes, 0, minutesPerDay, "minutes"),
		within("limits.day_minutes", s.Limits.DayMinutes, 0, minutesPerDay, "minutes"),
		within("limits.week_minutes", s.Limits.WeekMinutes, 0, 7*minutesPerDay, "minutes"),
	)
}

// Validate returns an Invalid *punch.Error that names the first wrong field, such as cycle[2].start.
func (s *Schedule) Validate() error {
	if !punch.ValidSource(s.Name) {
		return punch.InvalidField("schedule", punch.NameRule)
	}
	if s.Calendar != "" && !punch.ValidSource(s.Calendar) {
		return punch.InvalidField("calendar", punch.NameRule)
	}
	if s.DayBoundary != nil {
		if err := within("day_boundary", int(*s.DayBoundary), 0, latestBoundary, unitClock); err != nil {
			return err
		}
	}
	if err := firstError(
		validDate("effective_from", s.EffectiveFrom),
		validDate("cycle_start", s.CycleStart),
		within("cycle", len(s.Cycle), 1, MaxCycle, "days"),
	); err != nil {
		return err
	}
	for i, shift := range s.Cycle {
		if err := shift.validate(fmt.Sprintf("cycle[%d]", i)); err != nil {
			return err
		}
	}
	if err := s.validateBreaks(); err != nil {
		return err
	}
	if err := s.validatePremiums(); err != nil {
		return err
	}
	if err := s.Rounding.validate(); err != nil {
		return err
	}
	return firstError(
		within("grace.late_minutes", s.Grace.LateMinutes, 0, minutesPerDay, "minutes"),
		within("grace.early_minutes", s.Grace.EarlyMinutes, 0, minutesPerDay, "minutes"),
		within("overtime.daily_after_minutes", s.Overtime.DailyAfterMinutes, 0, minutesPerDay, "minutes"),
		within("overtime.weekly_after_minutes", s.Overtime.WeeklyAfterMinutes, 0, 7*minutesPerDay, "minutes"),
	)
}

func (s *Shift) validate(field string) error {
	if s == nil {
		return nil
	}
	return firstError(
		within(field+".start", int(s.Start), 0, lastMinute, unitClock),
		within(field+".end", int(s.End), 0, int(endOfDay), unitClock),
		within(field+".target_minutes", s.TargetMinutes, 0, minutesPerDay, "minutes"),
	)
}

func (s *Schedule) validateBreaks() error {
	if len(s.Breaks) > MaxBreaks {
		return punch.InvalidField("breaks", "must have at most %d entries, has %d", MaxBreaks, len(s.Breaks))
	}
	after := -1
	for i, b := range s.Breaks {
		field := fmt.Sprintf("breaks[%d]", i)
		if err := firstError(
			within(field+".after_minutes", b.AfterMinutes, 0, minutesPerDay, "minutes"),
			within(field+".minutes", b.Minutes, 1, 8*60, "minutes"), // a shift
		); err != nil {
			return err
		}
		if b.AfterMinutes <= after {
			return punch.InvalidField(field+".after_minutes", "must be more than the %d minutes of the entry before", after)
		}
		after = b.AfterMinutes
	}
	return nil
}

func (s *Schedule) validatePremiums() error {
	if len(s.Premiums) > MaxPremiums {
		return punch.InvalidField("premiums", "must have at most %d entries, has %d", MaxPremiums, len(s.Premiums))
	}
	for i, p := range s.Premiums {
		field := fmt.Sprintf("premiums[%d]", i)
		if err := validLabel(field+".premium", p.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(s.Premiums[:i], func(other Premium) bool { return other.Name == p.Name }) {
			return punch.InvalidField(field+".premium", "must appear only once; %s appears twice", p.Name)
		}
		if (p.Start == nil) != (p.End == nil) {
			return punch.InvalidField(field, "must have both start and end, or neither")
		}
		if p.Start == nil && len(p.Weekdays) == 0 && !p.Holidays {
			return punch.InvalidField(field, "must have start and end, weekdays, or holidays")
		}
		if p.Start != nil {
			if err := within(field+".start", int(*p.Start), 0, lastMinute, unitClock); err != nil {
				return err
			}
			if err := within(field+".end", int(*p.End), 0, int(endOfDay), unitClock); err != nil {
				return err
			}
		}
		for j, day := range p.Weekdays {
			if day < 0 || day > 6 || slices.Contains(p.Weekdays[:j], day) {
				return punch.InvalidField(field+".weekdays", "must name each day at most once")
			}
		}
	}
	return nil
}

func (r *Rounding) validate() error {
	if r == nil {
		return nil
	}
	return firstError(
		within("rounding.minutes", r.Minutes, 1, 60, "minutes"),
		oneOf("rounding.mode", r.Mode, RoundNearest, RoundDown, RoundUp),
	)
}

// Validate returns an Invalid *punch.Error that names the first wrong field.
func (h *Holiday) Validate() error {
	if !punch.ValidSource(h.Calendar) {
		return punch.InvalidField("calendar", punch.NameRule)
	}
	return firstError(validDate("date", h.Date), validLabel("name", h.Name), oneOf("part", h.Part, Full, FirstHalf, SecondHalf))
}

// Validate returns an Invalid *punch.Error that names the first wrong field.
func (a *Absence) Validate() error {
	return firstError(validDate("date", a.Date), validLabel("kind", a.Kind), oneOf("part", a.Part, Full, FirstHalf, SecondHalf))
}

// Validate returns an Invalid *punch.Error that names the first wrong field.
func (a *Assignment) Validate() error {
	if a.Schedule != "" && !punch.ValidSource(a.Schedule) {
		return punch.InvalidField("schedule", punch.NameRule)
	}
	return firstError(validDate("from", a.From))
}

// Validate returns an Invalid *punch.Error that names the first wrong field.
func (c *Correction) Validate() error {
	var zero ID
	needsTarget := c.Op == OpVoid || c.Op == OpRetime || c.Op == OpRekind
	switch {
	case c.ID == zero:
		return punch.InvalidField("id", "%s", punch.ErrNotUUIDv7)
	case needsTarget && (c.Target == zero || c.Target == c.ID):
		return punch.InvalidField("target", "must be the id of a punch or of another correction")
	case (c.Op == OpAdd || c.Op == OpRekind) && !slices.Contains(punch.Kinds, c.Kind):
		return punch.InvalidField("kind", "must be one of in, out, break_start, break_end, auto")
	case (c.Op == OpAdd || c.Op == OpRetime) && c.At.IsZero():
		return punch.InvalidField("at", "must be the time of the punch")
	case c.Op == OpShift && !punch.ValidSource(c.Source), c.Source != "" && !punch.ValidSource(c.Source):
		return punch.InvalidField("source", punch.NameRule)
	case c.Op == OpShift && !c.Until.After(c.From):
		return punch.InvalidField("until", "must be after from")
	case c.Op == OpShift && (c.BySeconds == 0 || c.BySeconds > maxShift || c.BySeconds < -maxShift):
		return punch.InvalidField("by_seconds", "must be from -%d to %d and not 0", maxShift, maxShift)
	case c.MadeAt.IsZero():
		return punch.InvalidField("made_at", "must be the time of the correction")
	}
	return firstError(
		oneOf("op", c.Op, OpAdd, OpVoid, OpRetime, OpRekind, OpShift, OpNote),
		oneOf("decision", c.Decision, Accepted, Requested, Refused),
		validDate("work_date", c.WorkDate),
	)
}

// maxShift is a century in seconds. A terminal that lost its clock shows 1970 or 2000.
const maxShift = 100 * 366 * secondsPerDay

func firstError(errs ...*punch.Error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// within and the checks below return a *punch.Error, so that firstError can take all of them.
func within(field string, value, least, most int, unit string) *punch.Error {
	if value < least || value > most {
		return punch.InvalidField(field, "must be from %d to %d %s, is %d", least, most, unit, value)
	}
	return nil
}

func validDate(field string, d Date) *punch.Error {
	if d < MinDate || d > MaxDate {
		return punch.InvalidField(field, "%s", errDate)
	}
	return nil
}

func oneOf[T ~string](field string, value T, allowed ...T) *punch.Error {
	if !slices.Contains(allowed, value) {
		return punch.InvalidField(field, "must be one of %v, is %q", allowed, string(value))
	}
	return nil
}

func validLabel(field, s string) *punch.Error {
	if s == "" || len(s) > MaxLabel || !utf8.ValidString(s) || hasControl(s) {
		return punch.InvalidField(field, "must be 1 to %d bytes of text without control characters", MaxLabel)
	}
	return nil
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}
