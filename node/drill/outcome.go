package drill

import (
	"errors"
	"fmt"
	"time"
)

// Outcome is what a drill found.
type Outcome struct {
	Scenario string   `json:"scenario"`
	About    string   `json:"about"`
	Engine   string   `json:"engine"` // with its version
	Nodes    int      `json:"nodes"`
	Victim   string   `json:"victim"` // region
	Rate     float64  `json:"rate"`   // punches per second that were asked for
	Notes    []string `json:"notes,omitempty"`
	Moments  Moments  `json:"moments"`
	// Error is why the drill did not come to its end; the figures are of what
	// there was until then, and nothing was judged.
	Error   string  `json:"error,omitempty"`
	Ledger  *Report `json:"ledger"`  // nil when it could not be audited
	Dropped int     `json:"dropped"` // due and never sent: the numbers are void
	// Late is how long after its due time a punch was begun, at the 99th
	// percentile: more than some milliseconds is a machine that is too busy to
	// be measured.
	Late    time.Duration `json:"late_ns"`
	Failed  int           `json:"failed"` // not acknowledged within the client's patience
	Retries int           `json:"retries"`
	Homes   []HomeFigures `json:"homes"`
	Gaps    []Gap         `json:"gaps"`
	Watch   Watch         `json:"watch"`
	Checks  []Check       `json:"checks"`
	Seconds []Second      `json:"seconds"` // the timeline
}

// Check is one bound and what was measured.
type Check struct {
	What     string `json:"what"`
	Limit    string `json:"limit"`
	Measured string `json:"measured"`
	OK       bool   `json:"ok"`
}

// ErrBound is returned when a bound does not hold.
var ErrBound = errors.New("a bound does not hold")

// ErrUnfinished is returned for a drill that did not come to its end.
var ErrUnfinished = errors.New("the drill did not come to its end")

// ErrNotAudited is returned when nobody has held the ledger against the rows.
var ErrNotAudited = errors.New("the ledger was not audited")

// Verdict is nil when the drill came to its end, the ledger is clean and rests
// on evidence, the load was the one that was asked for, and all bounds hold.
func (o *Outcome) Verdict() error {
	var errs []error
	if o.Error != "" {
		errs = append(errs, fmt.Errorf("%w: %s", ErrUnfinished, o.Error))
	}
	if o.Ledger == nil {
		errs = append(errs, ErrNotAudited)
	} else {
		errs = append(errs, o.Ledger.Verdict())
	}
	for _, c := range o.Checks {
		if !c.OK {
			errs = append(errs, fmt.Errorf("%w: %s: %s, must be %s", ErrBound, c.What, c.Measured, c.Limit))
		}
	}
	return errors.Join(errs...)
}

// judge fills in the checks.
func (o *Outcome) judge(b Bounds) {
	o.check("punches that were due and not sent", o.Dropped, 0)
	if b.NoneFailed {
		o.check("punches that failed", o.Failed, 0)
	}
	homes := func(limit time.Duration, what string, bound func(home string) bool) {
		if limit == 0 {
			return
		}
		var worst HomeFigures
		for _, h := range o.Homes {
			if h.Phase != Before && bound(h.Home) && h.P99 >= worst.P99 {
				worst = h
			}
		}
		o.checkTime("p99 of "+what, worst.P99, fmt.Sprintf("%s, %s", worst.Home, worst.Phase), limit)
	}
	homes(b.P99, "each home", func(string) bool { return true })
	homes(b.OthersP99, "the other homes", func(home string) bool { return home != o.Victim })
	cells := func(limit time.Duration, what string, bound func(*Gap) bool) {
		if limit == 0 {
			return
		}
		if gap := o.longest(bound); gap.Open {
			o.Checks = append(o.Checks, Check{What: what, Limit: "within " + limit.String(), Measured: "never, for " + gap.Home + " through " + gap.Entry})
		} else {
			o.checkTime(what, gap.Took, gap.Home+" through "+gap.Entry, limit)
		}
	}
	cells(b.Gap, "recovery of every home through every entry", func(*Gap) bool { return true })
	cells(b.VictimGap, "recovery of the victim's home", func(g *Gap) bool { return g.Home == o.Victim })
	cells(b.MajorityGap, "recovery of the majority's side", func(g *Gap) bool { return g.Entry != o.Victim })
}

func (o *Outcome) longest(among func(*Gap) bool) (longest Gap) {
	for _, g := range o.Gaps {
		if among(&g) && (g.Open && !longest.Open || g.Open == longest.Open && g.Took >= longest.Took) {
			longest = g
		}
	}
	return longest
}

func (o *Outcome) check(what string, n, limit int) {
	o.Checks = append(o.Checks, Check{What: what, Limit: fmt.Sprint(limit), Measured: fmt.Sprint(n), OK: n <= limit})
}

func (o *Outcome) checkTime(what string, d time.Duration, where string, limit time.Duration) {
	o.Checks = append(o.Checks, Check{
		What: what, Limit: "under " + limit.String(), Measured: fmt.Sprintf("%s (%s)", brief(d), where), OK: d < limit,
	})
}

// brief writes a duration with a sensible number of digits.
func brief(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
