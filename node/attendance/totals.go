package attendance

import (
	"slices"
	"strings"
	"time"
)

// Period is the sum of the days of one employee, as a timesheet and an export show it.
type Period struct {
	Totals
	// WorkedRounded is the sum of the worked time of each day after the rounding of its schedule.
	WorkedRounded int64    `json:"worked_rounded_seconds"`
	Premiums      []Amount `json:"premiums,omitempty"` // in the order of their names
	Days          int      `json:"days"`
	// NotKnownYet and Provisional count the days that may still change.
	NotKnownYet int `json:"not_known_yet_days"`
	Provisional int `json:"provisional_days"`
	// CompleteUntil is the earliest time up to which a day is complete, zero when a day has no known source.
	CompleteUntil time.Time `json:"complete_until,omitzero"`
}

// Sum adds up days.
func Sum(days []Day) Period {
	p := Period{Days: len(days)}
	for i := range days {
		d := &days[i]
		p.Totals = p.Plus(d.Totals)
		p.WorkedRounded += d.Rounding.Round(d.Totals.Worked)
		for _, a := range d.Premiums {
			p.addPremium(a)
		}
		if d.Status == NotKnownYet {
			p.NotKnownYet++
		}
		if d.Provisional {
			p.Provisional++
		}
		if i == 0 || d.Complete.Until.Before(p.CompleteUntil) {
			p.CompleteUntil = d.Complete.Until
		}
	}
	return p
}

func (p *Period) addPremium(a Amount) {
	i, found := slices.BinarySearchFunc(p.Premiums, a.Premium, func(have Amount, name string) int { return strings.Compare(have.Premium, name) })
	if !found {
		p.Premiums = slices.Insert(p.Premiums, i, Amount{Premium: a.Premium})
	}
	p.Premiums[i].Seconds += a.Seconds
}

// Plus returns the sum of two totals.
func (t Totals) Plus(other Totals) Totals {
	return Totals{
		Worked:         t.Worked + other.Worked,
		Break:          t.Break + other.Break,
		AutomaticBreak: t.AutomaticBreak + other.AutomaticBreak,
		Target:         t.Target + other.Target,
		Late:           t.Late + other.Late,
		Early:          t.Early + other.Early,
		OvertimeDaily:  t.OvertimeDaily + other.OvertimeDaily,
		OvertimeWeekly: t.OvertimeWeekly + other.OvertimeWeekly,
	}
}

// Minus returns what the totals are more than others. The adjustment of a closed period is the new day minus the paid
// one.
func (t Totals) Minus(other Totals) Totals {
	return t.Plus(Totals{
		-other.Worked, -other.Break, -other.AutomaticBreak, -other.Target, -other.Late, -other.Early, -other.OvertimeDaily, -other.OvertimeWeekly,
	})
}

// Round rounds seconds that are not negative. A nil Rounding changes nothing.
func (r *Rounding) Round(seconds int64) int64 {
	if r == nil || r.Minutes <= 0 {
		return seconds
	}
	unit := int64(r.Minutes) * 60
	switch r.Mode {
	case RoundUp:
		return floorDiv(seconds+unit-1, unit) * unit
	case RoundNearest:
		return floorDiv(seconds+unit/2, unit) * unit
	default:
		return floorDiv(seconds, unit) * unit
	}
}
