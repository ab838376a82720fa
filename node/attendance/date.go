package attendance

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Date is a calendar date without a zone: days since 1970-01-01.
type Date int32

const secondsPerDay = 24 * 60 * 60

// The range of dates that text may name. No punch is older, because ids hold times after 1970. A later date is a
// mistake in typing.
var (
	MinDate = DateOf(time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC))
	MaxDate = DateOf(time.Date(2199, 12, 31, 0, 0, 0, 0, time.UTC))
)

var errDate = errors.New("must be a date such as 2026-11-28, from 1970 to 2199")

// DateOf returns the date that t has in its own zone.
func DateOf(t time.Time) Date {
	_, offset := t.Zone()
	return Date(floorDiv(t.Unix()+int64(offset), secondsPerDay))
}

// ParseDate reads a date such as 2026-11-28.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, errDate
	}
	if d := DateOf(t); d >= MinDate && d <= MaxDate {
		return d, nil
	}
	return 0, errDate
}

// Time returns the date's midnight in UTC.
func (d Date) Time() time.Time { return time.Unix(int64(d)*secondsPerDay, 0).UTC() }

// Weekday returns the day of the week.
func (d Date) Weekday() time.Weekday { return time.Weekday(floorMod(int64(d)+4, 7)) } // 1970-01-01 was a Thursday

// String returns the date as 2026-11-28.
func (d Date) String() string { return d.Time().Format(time.DateOnly) }

// MarshalText implements encoding.TextMarshaler.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Date) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDate(string(text))
	return err
}

// weekStart returns the latest date that is not after d and has the weekday.
func (d Date) weekStart(first time.Weekday) Date {
	return d - Date(floorMod(int64(d.Weekday())-int64(first), 7))
}

// at returns the instant, in Unix seconds, at which the clocks of loc show c on d.
//
// In autumn a time can occur twice: the first occurrence counts. In spring a time can be missing: the instant counts at
// which clocks would have shown it without the change. time.Date leaves both cases open.
func (d Date) at(c Clock, loc *time.Location) int64 {
	local := int64(d)*secondsPerDay + int64(c)*60
	before, after := offsetAt(local-secondsPerDay, loc), offsetAt(local+secondsPerDay, loc)
	first, second := local-before, local-after
	if second < first { // clocks go forward
		first, second = second, first
	}
	switch {
	case offsetAt(first, loc) == local-first:
		return first
	case offsetAt(second, loc) == local-second:
		return second
	default:
		return local - before
	}
}

// offsetAt returns the seconds east of UTC at an instant.
func offsetAt(unix int64, loc *time.Location) int64 {
	_, offset := time.Unix(unix, 0).In(loc).Zone()
	return int64(offset)
}

// dateAt returns the date on the calendars of loc at an instant.
func dateAt(unix int64, loc *time.Location) Date {
	return Date(floorDiv(unix+offsetAt(unix, loc), secondsPerDay))
}

// Clock is a time of day in minutes after midnight, from 00:00 to 24:00.
type Clock int16

const endOfDay Clock = 24 * 60

var errClock = errors.New("must be a time of day such as 08:30, from 00:00 to 24:00")

// ParseClock reads a time of day such as 08:30.
func ParseClock(s string) (Clock, error) {
	if len(s) != 5 || s[2] != ':' {
		return 0, errClock
	}
	digits := [4]byte{s[0], s[1], s[3], s[4]}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, errClock
		}
	}
	hours, minutes := Clock(digits[0]-'0')*10+Clock(digits[1]-'0'), Clock(digits[2]-'0')*10+Clock(digits[3]-'0')
	if minutes > 59 || hours*60+minutes > endOfDay {
		return 0, errClock
	}
	return hours*60 + minutes, nil
}

// String returns the time as 08:30.
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", c/60, c%60) }

// MarshalText implements encoding.TextMarshaler.
func (c Clock) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Clock) UnmarshalText(text []byte) (err error) {
	*c, err = ParseClock(string(text))
	return err
}

// Weekday is a day of the week that is written as its English name in lower case.
type Weekday time.Weekday

var errWeekday = errors.New("must be a day such as monday")

// String returns the name, such as monday.
func (w Weekday) String() string { return strings.ToLower(time.Weekday(w).String()) }

// MarshalText implements encoding.TextMarshaler.
func (w Weekday) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *Weekday) UnmarshalText(text []byte) error {
	for day := Weekday(time.Sunday); day <= Weekday(time.Saturday); day++ {
		if string(text) == day.String() {
			*w = day
			return nil
		}
	}
	return errWeekday
}

// floorDiv divides and rounds down, so dates before 1970 are right as well.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }
