package drill

import (
	"errors"
	"fmt"
	"time"

	"github.com/punchclock/punchclock/node/lab/drill/audit"
)

// Outcome is the result of a drill.
type Outcome struct {
	Scenario string   `json:"scenario"`
	About    string   `json:"about"`
	Engine   string   `json:"engine"` // with its version
	Nodes    int      `json:"nodes"`
	Victim   string   `json:"victim"` // a region
	Rate     float64  `json:"rate"`   // punches per second, as configured
	Notes    []string `json:"notes,omitempty"`
	Moments  Moments  `json:"moments"`
	// Error says why the drill did not come to its end. The figures are then incomplete, and no bound was checked.
	Error  string        `json:"error,omitempty"`
	Ledger *audit.Report `json:"ledger"` // nil if the audit failed
	// Outboxes is nil if the scenario has no offline devices.
	Outboxes *Outboxes `json:"outboxes,omitempty"`
	// Plain is the plain client beside the reference client. All other figures but the ledger's leave it out.
	Plain *Plain `json:"plain,omitempty"`
	// Overloads are parts of the drill with more punches than the nodes could carry.
	Overloads []Overload `json:"overloads,omitempty"`
	Dropped   int        `json:"dropped"` // punches that were due and never sent, which makes the figures void
	// Late is how long after its due time the generator began a punch, at the 99th percentile. More than some
	// milliseconds mean that the machine is too busy to be measured.
	Late time.Duration `json:"late_ns"`
	// WrongTimes counts receipts with a wrong receive time, of punches that were due after the break.
	WrongTimes int `json:"wrong_times"`
	Failed     int `json:"failed"` // not acknowledged within the client's time limit
	Retries    int `json:"retries"`
	// Codes counts the errors of failed punches by code.
	Codes    map[string]int `json:"codes,omitempty"`
	Homes    []HomeFigures  `json:"homes"`
	Gaps     []Gap          `json:"gaps"`
	Recovery Recovery       `json:"recovery"`
	Checks   []Check        `json:"checks"`
	Seconds  []Second       `json:"seconds"` // the timeline
}

// Check is one bound with the measured value.
type Check struct {
	What     string `json:"what"`
	Limit    string `json:"limit"`
	Measured string `json:"measured"`
	OK       bool   `json:"ok"`
}

// ErrBound is returned if a bound does not hold.
var ErrBound = errors.New("a bound does not hold")

// ErrUnfinished is returned for a drill that did not come to its end.
var ErrUnfinished = errors.New("the drill did not come to its end")

// ErrNotAudited is returned if the ledger was not compared with the rows.
var ErrNotAudited = errors.New("the ledger was not audited")

// Verdict returns nil if the drill came to its end, the ledger is clean and holds receipts, and all bounds hold.
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

// brief formats a duration with few digits.
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
