//go:build !lab_clock

package main

import (
	"errors"
	"os"
	"time"
)

// nodeClock returns the clock of a node, which is the machine's. It fails if a drill wants to set the clock: such a
// drill would show nothing, and in production the variable would be a mistake.
func nodeClock() (func() time.Time, error) {
	if _, set := os.LookupEnv("PUNCHCLOCK_LAB_CLOCK_FILE"); set {
		return nil, errors.New("environment: PUNCHCLOCK_LAB_CLOCK_FILE needs a binary that was built with -tags=lab_clock")
	}
	return time.Now, nil
}
