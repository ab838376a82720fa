package drill

import (
	"errors"
	"fmt"
	"time"

	"github.com/punchclock/punchclock/node/lab/drill/audit"
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
	Error  string        `json:"error,omitempty"`
	Ledger *audit.Report `json:"ledger"` // nil when it could not be audited
	// Outboxes is nil unless the scenario strands devices.
	Outboxes *Outboxes `json:"outboxes,omitempty"`
	Dropped  int       `json:"dropped"` // due and never sent: the numbers are void
	// Late is how long after its due time a punch was begun, at the 99th
	// percentile: more than some milliseconds is a machine that is too busy to
	// be measured.
	Late     time.Duration `json:"late_ns"`
	Failed   int           `json:"failed"` // not acknowledged within the client's patience
	Retries  int           `json:"retries"`
	Homes    []HomeFigures `json:"homes"`
	Gaps     []Gap         `json:"gaps"`
	Recovery Recovery      `json:"recovery"`
	Checks   []Check       `json:"checks"`
	Seconds  []Second      `json:"seconds"` // the timeline
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
